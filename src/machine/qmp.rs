//! A client of the QEMU Machine Protocol (docs/interop/qmp-spec.rst in QEMU's sources).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use crate::error::{Context, Error, Kind, Result};

/// How long QEMU may take to answer; it answers from its main loop, which a busy host can hold up.
const ANSWER: Duration = Duration::from_secs(60);

/// Something that QEMU tells unasked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QmpEvent {
    /// Its name, for example `SHUTDOWN`.
    pub name: String,
    /// What belongs to it.
    pub data: Value,
}

/// `None` once QEMU closed the socket: nobody waits for an answer that cannot come.
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Value>>>>>;

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub(crate) struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    pending: Pending,
    next: AtomicU64,
    version: Version,
}

/// Which QEMU it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// Major and minor number.
    pub number: (u64, u64),
    /// All of it, with the distribution's own: `10.0.2 (Debian 1:10.0.2+ds-2)`.
    pub text: String,
}

impl Version {
    /// Of the greeting (qmp-spec.rst, `greeting`).
    fn of(greeting: &Value) -> Self {
        let version = &greeting["QMP"]["version"];
        let number = |name: &str| version["qemu"][name].as_u64().unwrap_or_default();
        let number = (number("major"), number("minor"), number("micro"));
        let package = version["package"].as_str().unwrap_or_default();
        let text = format!("{}.{}.{} {package}", number.0, number.1, number.2).trim_end().to_owned();
        Self { number: (number.0, number.1), text }
    }
}

impl Qmp {
    /// Takes QEMU's greeting and leaves negotiation mode. The events come over the second value,
    /// none lost, until QEMU closes the socket.
    ///
    /// # Errors
    /// QEMU closes the socket, or it is not QEMU.
    pub(crate) async fn open(stream: UnixStream) -> Result<(Self, mpsc::UnboundedReceiver<QmpEvent>)> {
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeting = read(&mut reader).await.ok_or_else(closed)?;
        if greeting.get("QMP").is_none() {
            return Err(Error::build("what answered on QEMU's monitor is not QEMU").because(greeting.to_string()));
        }
        let pending = Pending::new(Mutex::new(Some(HashMap::new())));
        let (events, receiver) = mpsc::unbounded_channel();
        tokio::spawn(follow(reader, Arc::clone(&pending), events));
        let qmp = Self {
            writer: tokio::sync::Mutex::new(writer),
            pending,
            next: AtomicU64::new(1),
            version: Version::of(&greeting),
        };
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok((qmp, receiver))
    }

    /// Which QEMU it is.
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    /// Runs a command and returns what it returns.
    ///
    /// # Errors
    /// QEMU refuses it, closes the socket, or does not answer within [`ANSWER`].
    pub(crate) async fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        match lock(&self.pending).as_mut() {
            Some(pending) => pending.insert(id, sender),
            None => return Err(closed()),
        };
        let mut request = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
        request.push('\n');
        self.writer
            .lock()
            .await
            .write_all(request.as_bytes())
            .await
            .context(Kind::Build, || format!("cannot give QEMU the command `{command}`"))?;
        let mut answer = tokio::time::timeout(ANSWER, answer)
            .await
            .map_err(|_| Error::build(format!("QEMU did not answer `{command}` within {ANSWER:?}")))?
            .map_err(|_| closed())?;
        match answer.get_mut("return") {
            Some(result) => Ok(result.take()),
            None => {
                let reason = answer.pointer("/error/desc").and_then(Value::as_str).unwrap_or("no reason given");
                Err(Error::build(format!("QEMU refused `{command}`")).because(reason.to_owned()))
            }
        }
    }

    /// Runs a command of the human monitor and returns what it prints.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub(super) async fn human(&self, line: &str) -> Result<String> {
        let text = self.execute("human-monitor-command", json!({ "command-line": line })).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }
}

fn closed() -> Error {
    Error::build("QEMU closed its monitor")
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Value>>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next message; none at the end or when it is not JSON.
async fn read(reader: &mut BufReader<OwnedReadHalf>) -> Option<Value> {
    let mut line = String::new();
    match reader.read_line(&mut line).await {
        Ok(1..) => serde_json::from_str(&line).ok(),
        _ => None,
    }
}

async fn follow(mut reader: BufReader<OwnedReadHalf>, pending: Pending, events: mpsc::UnboundedSender<QmpEvent>) {
    while let Some(mut message) = read(&mut reader).await {
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let name = name.to_owned();
            let data = message.get_mut("data").map(Value::take).unwrap_or_default();
            // Nobody listens any more: the answers still matter.
            let _ = events.send(QmpEvent { name, data });
        } else if let Some(id) = message.get("id").and_then(Value::as_u64) {
            let sender = lock(&pending).as_mut().and_then(|pending| pending.remove(&id));
            if let Some(sender) = sender {
                // Who asked has given up.
                let _ = sender.send(message);
            }
        }
    }
    // Dropping the senders tells everybody who waits.
    lock(&pending).take();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// A QEMU that answers every request with the next of `answers`, `ID` standing for the request's id.
    async fn fake(listener: UnixListener, greeting: &str, answers: &[&str]) -> Vec<Value> {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        writer.write_all(format!("{greeting}\r\n").as_bytes()).await.unwrap();
        let mut requests = Vec::new();
        for answer in answers {
            let Some(request) = read(&mut reader).await else { break };
            writer.write_all(answer.replace("ID", &request["id"].to_string()).as_bytes()).await.unwrap();
            requests.push(request);
        }
        requests
    }

    const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"major": 10}}, "capabilities": []}}"#;
    const OK: &str = "{\"return\": {}, \"id\": ID}\r\n";

    async fn with<T>(
        greeting: &'static str,
        answers: &'static [&'static str],
        test: impl AsyncFnOnce(Result<(Qmp, mpsc::UnboundedReceiver<QmpEvent>)>) -> T,
    ) -> (T, Vec<Value>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = tokio::spawn(fake(listener, greeting, answers));
        let result = test(Qmp::open(UnixStream::connect(path).await.unwrap()).await).await;
        (result, qemu.await.unwrap())
    }

    #[tokio::test]
    async fn commands_are_answered_and_events_are_kept() {
        let answers = &[
            OK,
            "{\"event\": \"STOP\", \"timestamp\": {}}\r\n{\"return\": {\"service\": \"5907\"}, \"id\": ID}\r\n\
             {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n",
        ];
        let (events, requests) = with(GREETING, answers, async |opened| {
            let (qmp, mut events) = opened.unwrap();
            assert_eq!(qmp.execute("query-vnc", json!({})).await.unwrap(), json!({ "service": "5907" }));
            [events.recv().await.unwrap(), events.recv().await.unwrap()]
        })
        .await;
        assert_eq!(events[0], QmpEvent { name: "STOP".into(), data: Value::Null });
        assert_eq!(events[1], QmpEvent { name: "SHUTDOWN".into(), data: json!({ "guest": true }) });
        let names: Vec<_> = requests.iter().map(|request| request["execute"].as_str().unwrap()).collect();
        assert_eq!(names, ["qmp_capabilities", "query-vnc"]);
    }

    #[tokio::test]
    async fn a_refusal_tells_qemus_reason() {
        let answers = &[OK, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such disk\"}, \"id\": ID}\r\n"];
        let (error, _) = with(GREETING, answers, async |opened| {
            opened.unwrap().0.execute("eject", json!({ "id": "x" })).await.unwrap_err()
        })
        .await;
        assert_eq!(error.chain(), ["QEMU refused `eject`", "no such disk"]);
    }

    #[tokio::test]
    async fn the_end_of_the_socket_ends_all_waiting() {
        let (errors, _) = with(GREETING, &[OK, ""], async |opened| {
            let (qmp, mut events) = opened.unwrap();
            let waiting = qmp.execute("query-status", json!({})).await.unwrap_err();
            assert_eq!(events.recv().await, None);
            [waiting, qmp.execute("query-status", json!({})).await.unwrap_err()]
        })
        .await;
        for error in errors {
            assert_eq!(error.to_string(), "QEMU closed its monitor");
        }
    }

    #[tokio::test]
    async fn a_stranger_is_refused() {
        let (error, _) = with("{\"hello\": 1}", &[], async |opened| opened.map(|_| ()).unwrap_err().to_string()).await;
        assert_eq!(error, "what answered on QEMU's monitor is not QEMU");
        let (error, _) = with("SSH-2.0-x", &[], async |opened| opened.map(|_| ()).unwrap_err().to_string()).await;
        assert_eq!(error, "QEMU closed its monitor");
    }
}
