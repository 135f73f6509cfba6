//! How others reach this process: at the admin address and at the control socket, of which it is one process's turn.

use std::rc::Rc;
use std::sync::Arc;

use tokio::task::spawn_local;
use tokio_util::sync::CancellationToken;

use super::Control;
use super::socket::{self, Before};
use crate::admin;
use crate::status::Stage;

impl Control {
    /// Begins to answer at the admin address, unless this process does already.
    pub(super) fn serve_admin(&mut self) {
        if let (Some(admin), None) = (&self.admin, &self.leave_admin) {
            let address = admin.local_addr().ok().map(tracing::field::display);
            tracing::info!(address, "admin listening");
            let leave = CancellationToken::new();
            self.leave_admin = Some(leave.clone());
            let (admin, state) = (Arc::clone(admin), Arc::clone(&self.state));
            let serve = admin::serve(admin, state, leave);
            spawn_local(self.registry.vital_task("admin", serve));
        }
    }

    /// Shows that the listeners accept: in the probes, at the admin address and on the control socket.
    pub(super) fn begin_to_serve(&mut self, before: Before) {
        self.state.enter(Stage::Ready);
        self.serve_admin();
        self.take_socket(before);
    }

    /// Starts the task of the control socket.
    pub(super) fn take_socket(&mut self, before: Before) {
        if let Some((file, requests)) = &self.file {
            let (file, requests) = (file.path.clone(), requests.clone());
            let (state, heir) = (Arc::clone(&self.state), Rc::clone(&self.heir));
            let serve = socket::serve(file, before, requests, state, heir);
            let serve = self.registry.vital_task("control socket", serve);
            self.socket = Some(spawn_local(serve).abort_handle());
        }
    }

    /// Stops answering at the admin address, which another process has now. Requests that have arrived are
    /// still answered.
    pub(super) fn leave_admin(&mut self) {
        if let Some(leave) = self.leave_admin.take() {
            leave.cancel();
        }
    }

    /// Leaves the control socket to another process.
    pub(super) fn leave_socket(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.abort();
            self.registry.config().control_socket(false);
        }
    }
}
