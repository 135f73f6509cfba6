//! The reasons why a connection cannot be accepted.

use enum_map::Enum;
use strum::{IntoStaticStr, VariantArray};

use super::Resource;

/// Why a connection could not be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum AcceptFailure {
    /// The process has no descriptor left (EMFILE).
    Descriptors,
    /// The system has no descriptor left (ENFILE).
    SystemDescriptors,
    /// The kernel has no memory for it (ENOBUFS, ENOMEM).
    Memory,
    /// The client was gone before portway accepted it, or the network reported an error for it.
    Connection,
}

impl AcceptFailure {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The reason for an error of `accept`.
    pub const fn from_errno(error: i32) -> Self {
        match error {
            libc::EMFILE => Self::Descriptors,
            libc::ENFILE => Self::SystemDescriptors,
            libc::ENOBUFS | libc::ENOMEM => Self::Memory,
            _ => Self::Connection,
        }
    }

    /// The remedy for an operator, if the next accept would fail too; `None` if the error concerns only the
    /// connection that failed.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Descriptors => Some(Resource::Descriptors.remedy()),
            Self::SystemDescriptors => Some(Resource::SystemDescriptors.remedy()),
            Self::Memory => Some(Resource::Memory.remedy()),
            Self::Connection => None,
        }
    }
}
