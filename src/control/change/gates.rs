//! The gates of proxy listeners. A reload that leaves a file of users as it was keeps the gate, with the answers that it
//! remembers.

use std::io;
use std::sync::{Arc, Weak};

use crate::config::Listener;
use crate::credentials::{Checker, Gate, Users};

/// The gates that a configuration or a connection holds, and the checker of all of them.
#[derive(Clone, Default)]
pub(super) struct Gates {
    /// Started when the first listener needs it.
    checker: Option<Arc<Checker>>,
    known: Vec<Weak<Gate>>,
}

impl Gates {
    /// The gate of each listener, in their order.
    pub(super) fn of(&mut self, listeners: &[Listener]) -> io::Result<Vec<Option<Arc<Gate>>>> {
        self.known.retain(|gate| gate.strong_count() > 0);
        let gate = |listener: &Listener| {
            let users = listener.users.as_ref();
            users.map(|users| self.gate(users)).transpose()
        };
        listeners.iter().map(gate).collect()
    }

    fn gate(&mut self, users: &Arc<Users>) -> io::Result<Arc<Gate>> {
        let mut known = self.known.iter().filter_map(Weak::upgrade);
        if let Some(gate) = known.find(|gate| gate.is_for(users)) {
            return Ok(gate);
        }
        let checker = match &self.checker {
            Some(checker) => Arc::clone(checker),
            None => Arc::clone(self.checker.insert(Arc::new(Checker::start()?))),
        };
        let gate = Arc::new(Gate::new(Arc::clone(users), checker));
        self.known.push(Arc::downgrade(&gate));
        Ok(gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2b$04$DCq7YPn5Rq63x1Lad4cll..B5WFVPnYJVH.PLKCr5kRSbWcFWwXDO";

    fn listener(file: Option<&str>) -> Listener {
        Listener {
            name: "proxy".into(),
            bind: Vec::new(),
            protocol: crate::wire::ListenerProtocol::Socks5,
            balancers: crate::routing::NetworkSet::default(),
            clients: crate::admission::Networks::default(),
            freebind: false,
            users: file.map(|file| Arc::new(Users::parse(file).unwrap())),
        }
    }

    #[test]
    fn a_gate_stays_while_its_users_do_and_listeners_with_the_same_users_share_it() {
        let mut gates = Gates::default();
        let one = format!("one:{HASH}\n");
        let other = format!("other:{HASH}\n");
        let of = |gates: &mut Gates, files: &[Option<&str>]| {
            let listeners: Vec<_> = files.iter().map(|file| listener(*file)).collect();
            gates.of(&listeners).unwrap()
        };
        assert!(matches!(&of(&mut gates, &[None])[..], [None]));
        assert!(gates.checker.is_none());

        let first = of(&mut gates, &[Some(&one), None, Some(&one)]);
        let [Some(gate), None, Some(same)] = &first[..] else {
            panic!("{first:?}");
        };
        assert!(Arc::ptr_eq(gate, same));
        // A comment changes nothing.
        let again = of(&mut gates, &[Some(&format!("# x\n{one}"))]);
        assert!(again[0].as_ref().is_some_and(|it| Arc::ptr_eq(it, gate)));
        let changed = of(&mut gates, &[Some(&other)]);
        assert!(changed[0].as_ref().is_some_and(|it| !Arc::ptr_eq(it, gate)));
        drop((first, again));
        of(&mut gates, &[Some(&other)]);
        assert_eq!(gates.known.len(), 1);
    }
}
