//! How control checks an endpoint, if it does.

use std::sync::atomic::Ordering;

use super::Endpoint;
use crate::backend::{Address, Check};

impl Endpoint {
    /// Notes how control checks its addresses from now on, if it does. The findings that such checks do not have are
    /// forgotten.
    pub fn check(&self, check: Option<Check>) {
        let shows_certificates = check == Some(Check::Tls);
        self.is_checked.store(check.is_some(), Ordering::Relaxed);
        self.shows_certificates
            .store(shows_certificates, Ordering::Relaxed);
        if check.is_none() {
            self.addresses.each_known(Address::uncheck);
        }
        if !shows_certificates {
            self.addresses.each_known(|address| address.present(None));
        }
    }

    /// Whether control makes checks that show the certificates of its addresses.
    pub fn shows_certificates(&self) -> bool {
        self.shows_certificates.load(Ordering::Relaxed)
    }

    /// Whether control checks its addresses.
    pub fn is_checked(&self) -> bool {
        self.is_checked.load(Ordering::Relaxed)
    }
}
