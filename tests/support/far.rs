//! A second network that a cable joins to that of a test: peers there vanish when the cable is cut.

use std::process::Command;

use super::namespace::{Namespace, granted, in_a_network};

/// The address of the test's network on the cable.
pub(crate) const NEAR: &str = "10.0.0.1";

/// The address of the other network on the cable.
pub(crate) const FAR: &str = "10.0.0.2";

/// The address at the end of the third network, and that of the hop which leads to it.
const END: &str = "10.0.1.2";
const HOP: &str = "10.0.1.1";

/// The other network, with the interface `far`; in that of the test the interface is `near`.
pub(crate) struct Far(Namespace);

/// Runs a test in a network of its own, with another one at the end of a cable; says so where the machine does not
/// allow them.
pub(crate) fn beside_a_far_network(test: impl FnOnce(&Far) + Send) {
    in_a_network(|| {
        if let Some(far) = granted(Far::start()) {
            test(&far);
        }
    });
}

impl Far {
    fn start() -> Result<Self, String> {
        let far = Self::without_a_cable()?;
        let cable = "ip link add near type veth peer name far netns";
        shell(&format!(
            "{cable} {} && ip address add {NEAR}/24 dev near && ip link set near up",
            far.0.pid()
        ))?;
        far.run(|| {
            shell(&format!(
                "ip address add {FAR}/24 dev far && ip link set far up"
            ))
        })?;
        Ok(far)
    }

    /// Another network that nothing joins to that of the test yet.
    pub(crate) fn without_a_cable() -> Result<Self, String> {
        Ok(Self(Namespace::start("")?))
    }

    /// Runs this there; sockets that it opens stay there.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.0.run(what)
    }

    /// A third network behind the other one, which forwards. A packet from there that is larger than `mtu` gets lost on
    /// the way here: the hop in the middle believes that 1500 bytes are taken, and so do both ends.
    pub(crate) fn behind_a_hop(&self, mtu: usize) -> Self {
        let end = Self(Namespace::start("").unwrap());
        let hop = format!(
            "ip link add hop type veth peer name end netns {} && ip address add {HOP}/24 dev hop && \
             ip link set hop up && echo 1 >/proc/sys/net/ipv4/ip_forward",
            end.0.pid()
        );
        self.run(|| shell(&hop)).unwrap();
        // Each packet for itself, as on a wire.
        let there = format!(
            "ip address add {END}/24 dev end && ip link set end up gso_max_segs 1 && \
             ip route add default via {HOP}"
        );
        end.run(|| shell(&there)).unwrap();
        let here =
            format!("ip link set near mtu {mtu} && ip route add {END} via {FAR} advmss 1460");
        shell(&here).unwrap();
        end
    }

    /// From now on this hop answers what is for the network behind it with ICMP: host unreachable.
    pub(crate) fn refuse_to_forward(&self) {
        let refuse = format!("ip route add unreachable {END}");
        self.run(|| shell(&refuse)).unwrap();
    }

    /// From now on nothing comes from there, and nothing gets there.
    pub(crate) fn cut(&self) {
        self.run(|| shell("ip link set far down")).unwrap();
    }
}

/// Runs commands in the network of this thread.
pub(crate) fn shell(commands: &str) -> Result<(), String> {
    let output = Command::new("sh").args(["-c", commands]).output();
    let output = output.map_err(|error| format!("sh: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{commands}: {}", said.trim()))
}
