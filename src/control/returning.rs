//! The way back: the successor has ended, or closes what it took over, and this process accepts again.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::drain::tell;
use super::entering::{Entering, Kind, Step};
use super::service::Service;
use super::socket::{Before, Successor};
use super::{Control, Stopped};
use crate::net;
use crate::worker::Message;

#[cfg(test)]
mod tests;

impl Control {
    /// Begins to accept again. If the successor has asked for it, it is notified afterwards.
    pub(super) fn come_back(&mut self, successor: Option<Successor>) {
        self.drain = None;
        self.service.goes_on();
        tell(&self.mailboxes, || Message::Resume);
        self.entering = Some(Entering {
            generation: self.registry.config().generation(),
            step: Step::Listening(self.in_force.listen(&self.mailboxes)),
            askers: Vec::new(),
            kind: Kind::Back(successor),
        });
    }

    /// Gives up coming back, because of a request to stop meanwhile. A successor that is alive goes on instead.
    pub(super) fn stop_coming_back(&mut self) {
        let is_back = |entering: &mut Entering| matches!(entering.kind, Kind::Back(_));
        match self.entering.take_if(is_back).map(|entering| entering.kind) {
            Some(Kind::Back(Some(_))) => self.let_go(),
            Some(Kind::Back(None)) => {
                self.bind_admin_again();
                self.begin_to_serve(Before::Successor(None));
            }
            Some(Kind::First | Kind::Reload) | None => {}
        }
    }

    /// Takes the place of a successor that has crashed, although this process does not accept again: it was told to stop,
    /// or has let its sockets go. As the main process it ends at once, for the reason that this returns, so that systemd
    /// starts portway again.
    pub(super) fn replace_successor(&self) -> Option<Stopped> {
        if self.service.is_main() {
            return None;
        }
        tracing::error!("the successor has crashed, and no process accepts connections");
        if !Service::is_there() {
            return None;
        }
        self.service.claim();
        Some(Stopped::Lost("successor"))
    }

    /// Closes an address that the successor has closed.
    pub(super) fn close_also(&mut self, address: SocketAddr) {
        self.in_force.let_go(address);
        let is_it = |admin: &TcpListener| admin.local_addr().ok() == Some(address);
        if self.admin.as_deref().is_some_and(is_it) {
            self.admin = None;
            self.admin_was = Some(address);
        }
    }

    /// Binds the admin address that the successor has closed.
    pub(super) fn bind_admin_again(&mut self) {
        let Some(address) = self.admin_was.take() else {
            return;
        };
        let bound = net::bind(address).and_then(|socket| TcpListener::from_std(socket.into()));
        match bound {
            Ok(admin) => self.admin = Some(Arc::new(admin)),
            Err(error) => {
                tracing::error!(%address, %error, "cannot bind the admin address again: restart portway");
            }
        }
    }
}
