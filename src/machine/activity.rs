//! What a machine has done so far, as counters that its guest moves.

use std::path::Path;

use serde_json::{Value, json};

use super::qmp::Qmp;
use crate::error::Result;

/// The transmit queue of a network card with one pair of queues (virtio 1.2, section 5.1.2).
const TRANSMIT: u64 = 1;
/// NTP: a guest that waits for somebody still asks for the time.
const CLOCK: &str = "123";
/// What QEMU's table knows, beside its heading.
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "ICMP"];

/// What a guest has done with its network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkUse {
    /// An operating system's driver has taken the card.
    pub driver: bool,
    /// Frames that the guest has sent, modulo 65536.
    pub sent: u64,
}

/// Counters of a machine; where two are equal, nothing was to do for its devices in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Activity {
    /// Operations on the disks.
    disks: u64,
    /// Connections that the guest has made.
    connections: Vec<String>,
    /// Frames that it has sent while it had one. Others are answers to whoever tries to reach the guest.
    frames: Option<u64>,
    /// Bytes of the serial console's log.
    serial: u64,
}

impl Activity {
    /// The machine's counters now.
    pub(super) async fn of(qmp: &Qmp, serial_log: &Path) -> Result<Self> {
        let disks = operations(&qmp.execute("query-blockstats", json!({})).await?);
        let connections = connections(&qmp.human("info usernet").await?);
        let connected = connections.iter().any(|connection| connection.starts_with("TCP"));
        let frames = if connected { network(qmp).await?.map(|network| network.sent) } else { None };
        // No log yet: nothing was written.
        let serial = std::fs::metadata(serial_log).map_or(0, |metadata| metadata.len());
        Ok(Self { disks, connections, frames, serial })
    }
}

/// What the guest has done with its virtio network card; none without one, or where QEMU does not tell (before 7.2).
pub(super) async fn network(qmp: &Qmp) -> Result<Option<NetworkUse>> {
    let Ok(devices) = qmp.execute("x-query-virtio", json!({})).await else { return Ok(None) };
    let mut devices = devices.as_array().into_iter().flatten();
    let Some(card) = devices.find(|device| device["name"] == "virtio-net") else { return Ok(None) };
    let status = qmp.execute("x-query-virtio-status", json!({ "path": card["path"] })).await?;
    let queue = json!({ "path": card["path"], "queue": TRANSMIT });
    let queue = qmp.execute("x-query-virtio-queue-status", queue).await?;
    let sent = queue["used-idx"].as_u64().unwrap_or_default();
    Ok(Some(NetworkUse { driver: status["started"] == true, sent }))
}

/// Operations on all disks, from what `query-blockstats` answers.
fn operations(answer: &Value) -> u64 {
    let counters = ["rd_operations", "wr_operations", "unmap_operations"];
    let disks = answer.as_array().into_iter().flatten();
    disks.flat_map(|disk| counters.map(|counter| disk["stats"][counter].as_u64().unwrap_or_default())).sum()
}

/// The connections in QEMU's table (`info usernet`) that the guest has made, without times. A line reads
/// `TCP[ESTABLISHED]  12  10.0.2.15 50000  10.0.2.2  80  0  0` or `UDP[236 sec]  13  10.0.2.15 41000  10.0.2.3  53  0  0`;
/// forwards, and what came through them, have an address of the host as their source.
fn connections(text: &str) -> Vec<String> {
    let made_by_guest = |line: &str| {
        let (state, rest) = line.trim().split_once(']')?;
        let (protocol, state) = state.split_once('[').filter(|(protocol, _)| PROTOCOLS.contains(protocol))?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        let [_, source, _, _, port, ..] = fields[..] else { return None };
        let incoming = state == "HOST_FORWARD" || source.starts_with("127.") || source == "*";
        let clock = protocol == "UDP" && port == CLOCK;
        // What is left of a datagram's time changes by itself.
        let state = if protocol == "TCP" { state } else { "" };
        (!incoming && !clock).then(|| format!("{protocol} {state} {}", fields.join(" ")))
    };
    text.lines().filter_map(made_by_guest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_of_the_guests_own_count() {
        let text = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
                    TCP[HOST_FORWARD]  11       127.0.0.1 44065       10.0.2.15    22     0     0\r\n  \
                    TCP[SYN_SENT]      14       127.0.0.1 44065       10.0.2.15    22     0     0\r\n  \
                    TCP[ESTABLISHED]   12       10.0.2.15 50000        10.0.2.2    80     7     0\r\n  \
                    UDP[236 sec]       13       10.0.2.15 41000        10.0.2.3    53     0     0\r\n  \
                    UDP[12 sec]        15       10.0.2.15 41001     192.0.2.123   123     0     0\r\n";
        let expected =
            ["TCP ESTABLISHED 12 10.0.2.15 50000 10.0.2.2 80 7 0", "UDP  13 10.0.2.15 41000 10.0.2.3 53 0 0"];
        assert_eq!(connections(text), expected);
        assert_eq!(connections(&text.replace("236 sec", "235 sec")), expected);
    }

    #[test]
    fn every_disk_counts() {
        let answer = json!([
            { "stats": { "rd_operations": 3, "wr_operations": 0, "unmap_operations": 1, "rd_bytes": 99 } },
            { "stats": { "rd_operations": 1, "wr_operations": 2 } },
        ]);
        assert_eq!(operations(&answer), 7);
    }
}
