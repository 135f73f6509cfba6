//! Judges a connection by the endpoints of its backend: whether they take it, and where it leads.

use std::net::SocketAddr;

use super::{Explanation, SHOWN};
use crate::backend::Target as Endpoint;
use crate::config::{Backend, Listener};
use crate::conn::Refusal;
use crate::dial::Unreached;
use crate::telemetry::list;

impl Explanation<'_> {
    /// Refuses a connection that no endpoint of its backend takes: none of them can have the address that the client
    /// asks for, or those that can drain. That depends on the file alone.
    pub(in crate::cli) fn judge(
        &mut self,
        (listener, target): (&Listener, Option<SocketAddr>),
        backend: &Backend,
    ) -> Result<(), Refusal> {
        // A name that a proxy resolves has no address that portway knows.
        let are_resolved = backend.resolving_proxy().is_none();
        let may_be_at = |endpoint: &Endpoint, address: SocketAddr| match endpoint {
            Endpoint::Address(own) => *own == address,
            Endpoint::Name { port, .. } => are_resolved && *port == address.port(),
            Endpoint::Asked { .. } => false,
        };
        let able: Vec<_> = (backend.members())
            .filter(|(endpoint, _)| target.is_none_or(|address| may_be_at(endpoint, address)))
            .collect();
        if let Some(address) = target.filter(|_| able.is_empty()) {
            self.taken = None;
            return Err(Refusal::not_an_address(listener.protocol, address));
        }
        let takers = able.iter().filter(|(_, role)| !role.drains());
        let takers: Vec<_> = takers.map(|(endpoint, _)| *endpoint).collect();
        if takers.is_empty() {
            return Err(Unreached::Draining.into());
        }
        if let Some(address) = target
            && !takers.contains(&&Endpoint::Address(address))
        {
            let names = list(&takers, SHOWN);
            self.add_note(&format!(
                "portway dials {address} only if it is an address of {names}"
            ));
        }
        Ok(())
    }

    /// Adds a note behind those that it has.
    pub(in crate::cli) fn add_note(&mut self, note: &str) {
        match &mut self.note {
            Some(notes) => {
                notes.push_str(". ");
                notes.push_str(note);
            }
            None => self.note = Some(note.to_owned()),
        }
    }

    /// Says where an endpoint leads that is the name that the client asks for.
    pub(super) fn note_of_name(&mut self, backend: &Backend) {
        let asked = backend
            .endpoints
            .iter()
            .find(|endpoint| endpoint.is_asked());
        let name = self.hello.as_ref().and_then(|it| it.server_name.as_deref());
        if let (Some(endpoint), Some(name)) = (asked, name)
            && let Some(port) = endpoint.port().or(self.port)
        {
            self.add_note(&format!("{endpoint} is {name}:{port} for this connection"));
        }
    }
}
