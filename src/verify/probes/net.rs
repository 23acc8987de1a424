//! Probes from outside: ports, RDP, HTTP, WebSockets.

use std::time::Duration;

use futures_util::future::try_join_all;
use reqwest::Method;

use super::expect::{shown, unmet};
use super::{Bench, Probed, failed, not_run};
use crate::verify::contract::What;
use crate::verify::ports;
use crate::verify::web::http::Http;
use crate::verify::web::websocket::{self, Handshake, Opened};

/// VISA's own patience with a port (`VISA_INSTANCE_PORT_CHECK_TIMEOUT_MS`).
const PORT: Duration = Duration::from_secs(5);

/// How long an empty connection may take to be closed on both sides.
const EMPTY: Duration = Duration::from_secs(2);

/// Empty connections at a time.
const TOGETHER: usize = 10;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

impl Bench<'_, '_> {
    /// Connects, and sees an answer: QEMU takes a connection before the guest does.
    pub(super) async fn port(&mut self, port: u16, empty: usize) -> Probed {
        let instance = match self.running() {
            Ok(instance) => instance,
            Err(why) => return not_run(why),
        };
        let address = instance.address(port)?;
        let greeting = instance.ports().iter().find(|known| known.port == port).map(|known| known.greeting.clone());
        try_join_all((0..TOGETHER).map(|_| ports::connect_and_close(address, empty.div_ceil(TOGETHER), EMPTY))).await?;
        let patience = PORT * self.slowness;
        match ports::ask(address, &greeting.unwrap_or_default(), patience).await {
            Ok(_) => Ok(Ok(())),
            Err(error) => failed(format!("port {port}"), "an answer".to_owned(), error.chain().join(": ")),
        }
    }

    pub(super) async fn all_ports(&mut self, limit: Duration) -> Probed {
        let instance = match self.running() {
            Ok(instance) => instance,
            Err(why) => return not_run(why),
        };
        let known: Vec<_> = instance.ports().to_vec();
        let mut silent = Vec::new();
        if known.is_empty() {
            return not_run("the contract declares no ports");
        }
        for port in known {
            let late = self.running().ok().and_then(|instance| instance.up(&port.name));
            if let Some(seconds) = late.filter(|seconds| *seconds > (limit * self.slowness).as_secs_f64()) {
                silent.push(format!("{} ({}): the first answer came after {seconds:.0} s", port.port, port.name));
                continue;
            }
            let address = self.running().map(|instance| instance.address(port.port)).ok().transpose()?;
            let Some(address) = address else { return not_run("the instance is off") };
            let deadline = tokio::time::Instant::now() + limit * self.slowness;
            loop {
                match ports::ask(address, &port.greeting, PORT * self.slowness).await {
                    Ok(_) => break,
                    Err(error) if tokio::time::Instant::now() >= deadline => {
                        silent.push(format!("{} ({}): {}", port.port, port.name, error.chain().join(": ")));
                        break;
                    }
                    Err(_) => tokio::time::sleep(super::PAUSE).await,
                }
            }
        }
        if silent.is_empty() {
            return Ok(Ok(()));
        }
        failed("the declared ports".to_owned(), format!("an answer within {limit:?}"), silent.join("\n"))
    }

    pub(super) async fn rdp_tls(&mut self, port: u16) -> Probed {
        let address = match self.running() {
            Ok(instance) => instance.address(port)?,
            Err(why) => return not_run(why),
        };
        let negotiation = ports::rdp_negotiation(address, ANSWER).await?;
        if negotiation.is_tls() {
            return Ok(Ok(()));
        }
        failed("RDP's negotiation".to_owned(), "TLS".to_owned(), negotiation.to_string())
    }

    pub(super) async fn http(&mut self, what: &What) -> Probed {
        let What::Http { port, path, method, headers, status, header, body } = what else {
            return not_run("no request");
        };
        let address = match self.running() {
            Ok(instance) => instance.address(*port)?,
            Err(why) => return not_run(why),
        };
        let path = self.fill(path);
        let name = format!("{method} {path} at port {port}");
        let Ok(method) = Method::from_bytes(method.as_bytes()) else { return not_run(format!("no method `{method}`")) };
        let headers: Vec<_> = headers.iter().map(|(key, value)| (key.clone(), self.fill(value))).collect();
        let http = Http::new(address, &self.values()["host"])?.patience(ANSWER);
        let answer = http.request(method, &path, &headers, None).await?;
        if !status.contains(&answer.status) {
            let expected: Vec<_> = status.iter().map(ToString::to_string).collect();
            return failed(
                name,
                format!("status {}", expected.join(" or ")),
                format!("status {}: {}", answer.status, shown(&answer.text())),
            );
        }
        let lines: String = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        if let Some(expected) = unmet(header, &lines, self.values()) {
            return failed(name, format!("headers with {expected}"), shown(&lines));
        }
        self.judge(name, body, &answer.text())
    }

    pub(super) async fn web_socket(&mut self, port: u16, path: &str, origin: Option<&str>, status: u16) -> Probed {
        let address = match self.running() {
            Ok(instance) => instance.address(port)?,
            Err(why) => return not_run(why),
        };
        let path = self.fill(path);
        let origin = origin.map(|origin| self.fill(origin));
        let host = &self.values()["host"];
        let handshake = Handshake { address, host, path: &path, origin: origin.as_deref(), headers: &[] };
        let got = match websocket::open(&handshake, ANSWER).await? {
            Opened::Accepted(socket) => {
                socket.close().await;
                101
            }
            Opened::Refused { status, .. } => status,
        };
        if got == status {
            return Ok(Ok(()));
        }
        failed(format!("WebSocket {path} at port {port}"), format!("status {status}"), format!("status {got}"))
    }
}
