//! Compares what `read_hello` sees with what rustls sees in the same bytes. If a relay routes by one name
//! while the backend answers for another, that is a security hole. If the backend refuses the hello anyway,
//! it is not.

use std::io;

use portway::tls::{Progress, ServerName, read_hello};
use rustls::server::{Accepted, Acceptor};
use rustls::{Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

/// How the two readings of some bytes compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// We do not route: the hello is not whole or is rejected, or its name is invalid.
    NotRouted,
    /// Both see the same name, or both see none.
    Same,
    /// rustls parses every extension that it knows, and one of them, or a repeated one, is broken.
    RefusedForAnotherExtension,
    /// rustls refuses a hello without signature algorithms or without null compression.
    RefusedForWhatIsOffered,
    /// rustls allows nothing after the hello in the same record.
    RefusedForBytesBehind,
    /// rustls refuses a label that begins or ends with a hyphen.
    RefusedForHyphens,
    /// rustls reads only whole records, and the last one is cut after the hello.
    WaitsForTheRecord,
}

/// Compares the readings. An error says what differs that must not.
pub(crate) fn compare(bytes: &[u8], max: usize) -> Result<Verdict, String> {
    let mut scratch = vec![0; max];
    let Progress::Hello(hello) = read_hello(bytes, max, &mut scratch) else {
        return Ok(Verdict::NotRouted);
    };
    let Ok(ours) = hello.server_name.map(ServerName::parse).transpose() else {
        return Ok(Verdict::NotRouted);
    };
    let ours = ours.as_ref().map(ServerName::as_str);
    let refusal = match accepted_by_rustls(bytes) {
        Ok(Some(accepted)) => match accepted.client_hello().server_name() {
            theirs if theirs == ours => return Ok(Verdict::Same),
            theirs => return Err(format!("we see {ours:?}, rustls sees {theirs:?}")),
        },
        Ok(None) if ends_inside_a_record(bytes) => return Ok(Verdict::WaitsForTheRecord),
        Ok(None) => return Err(format!("we see {ours:?}, rustls waits for more")),
        Err(refusal) => refusal,
    };
    excuse(&refusal, ours.unwrap_or_default())
        .ok_or_else(|| format!("we see {ours:?}, rustls refuses: {refusal:?}"))
}

/// The verdict if rustls refuses for a reason other than the name.
fn excuse(refusal: &Error, name: &str) -> Option<Verdict> {
    const WHAT_IS_OFFERED: [Error; 2] = [
        Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired),
        Error::PeerIncompatible(PeerIncompatible::NullCompressionRequired),
    ];
    const BYTES_BEHIND: Error = Error::PeerMisbehaved(PeerMisbehaved::KeyEpochWithPendingFragment);
    const ODD_NAME: Error = Error::PeerMisbehaved(PeerMisbehaved::ServerNameMustContainOneHostName);

    let hyphens = name
        .split('.')
        .any(|label| label.starts_with('-') || label.ends_with('-'));
    if *refusal == ODD_NAME && hyphens {
        Some(Verdict::RefusedForHyphens)
    } else if *refusal == BYTES_BEHIND {
        Some(Verdict::RefusedForBytesBehind)
    } else if WHAT_IS_OFFERED.contains(refusal) {
        Some(Verdict::RefusedForWhatIsOffered)
    } else if let Error::InvalidMessage(message) = refusal
        && *message != InvalidMessage::InvalidServerName
    {
        Some(Verdict::RefusedForAnotherExtension)
    } else {
        None
    }
}

/// The hello as rustls reads it, or `None` if it waits for more.
fn accepted_by_rustls(mut bytes: &[u8]) -> Result<Option<Accepted>, Error> {
    let broken = |error: io::Error| Error::General(error.to_string());
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).map_err(broken)?;
        if let Some(accepted) = acceptor.accept().map_err(|(error, _alert)| error)? {
            return Ok(Some(accepted));
        }
    }
    Ok(None)
}

fn ends_inside_a_record(mut bytes: &[u8]) -> bool {
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else {
            return true;
        };
        bytes = next;
    }
    !bytes.is_empty()
}
