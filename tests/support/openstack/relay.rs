//! One request through a fault proxy: its body to the service and the answer back, or what the rule says instead.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Interest, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::http::{Body, Framing, Head, write_piece};
use super::rules::{Book, Entry, Fault, Outcome};

/// How long a client that was answered may still send, as web servers let it.
const LINGER: Duration = Duration::from_secs(5);

/// A connection, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The client's side.
pub(super) struct Client {
    reader: BufReader<ReadHalf<Box<dyn Stream>>>,
    writer: WriteHalf<Box<dyn Stream>>,
    /// The same socket once more, for what TLS has no words for.
    socket: TcpStream,
    secure: bool,
}

/// Who broke a connection off.
enum Broken {
    Client,
    Service,
}

/// What a fault does to a body on its way.
#[derive(Clone, Copy, Debug, Default)]
struct Passage {
    bytes_per_second: Option<u64>,
    corrupt: Option<u64>,
    /// Reached, but not stopped, after so many bytes.
    mark: Option<u64>,
    stop: Option<u64>,
}

impl Passage {
    fn of(fault: &Fault) -> Self {
        let mut passage = Self { stop: fault.stop().map(|(after, _)| after), ..Self::default() };
        match fault {
            Fault::None { after } | Fault::Hold { after } => passage.mark = Some(*after),
            Fault::Slow { bytes_per_second } => {
                passage.bytes_per_second = Some(*bytes_per_second);
                passage.mark = Some(0);
            }
            Fault::CorruptByte { at } => {
                passage.corrupt = Some(*at);
                passage.mark = Some(*at + 1);
            }
            _ => {}
        }
        passage
    }

    /// The most that may pass at once after `seen` bytes.
    fn most(&self, seen: u64) -> u64 {
        let ends = [self.mark, self.stop].into_iter().flatten().filter(|end| *end > seen);
        let most = ends.map(|end| end - seen).min().unwrap_or(u64::MAX);
        // Ten pieces a second, so that a slow connection is slow all the time.
        self.bytes_per_second.map_or(most, |rate| most.min((rate / 10).max(1)))
    }

    async fn pause(&self, bytes: usize) {
        if let Some(rate) = self.bytes_per_second {
            tokio::time::sleep(Duration::from_secs(1).mul_f64(bytes as f64 / rate as f64)).await;
        }
    }
}

impl Client {
    /// `socket` is a second descriptor of the connection below `stream`.
    pub(super) fn new(stream: Box<dyn Stream>, socket: TcpStream, secure: bool) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: BufReader::with_capacity(64 * 1024, reader), writer, socket, secure }
    }

    /// Closes with a RST.
    fn reset(self) {
        let _ = self.socket.set_zero_linger();
    }

    /// Closes in order: what the client still sends is thrown away for a while, because a RST would take the answer
    /// with it.
    async fn close(mut self) {
        let _ = self.writer.shutdown().await;
        let mut waste = vec![0; 64 * 1024];
        let drained = async { while self.reader.read(&mut waste).await.is_ok_and(|length| length > 0) {} };
        let _ = tokio::time::timeout(LINGER, drained).await;
    }
}

/// Waits for the client to close the connection, reading nothing of it.
async fn hung_up(socket: &TcpStream) {
    while let Ok(ready) = socket.ready(Interest::READABLE).await {
        if ready.is_read_closed() {
            return;
        }
        // There is more to read: wait until something else happens.
        let _ = socket.try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
}

/// Serves the one request of a connection.
pub(super) async fn serve(mut client: Client, service: SocketAddr, book: &Book) {
    let Ok(Some(mut head)) = Head::read(&mut client.reader).await else { return };
    let entry = book.begin(&head);
    if head.header("expect").is_some() {
        let _ = client.writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        let _ = client.writer.flush().await;
        head.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("expect"));
    }
    head.set("Connection", "close");
    head.set("X-Forwarded-Proto", if client.secure { "https" } else { "http" });
    let passed = match entry.fault.clone() {
        Fault::Reset { .. } | Fault::Stall { .. } | Fault::Status { .. } => {
            interrupt(&mut client, &head, service, &entry).await
        }
        _ => relay(&mut client, &head, service, &entry).await,
    };
    match passed {
        Ok(End::Closed) => client.close().await,
        Ok(End::Reset) => client.reset(),
        Err(Broken::Client) => entry.ended(Outcome::ClientGone),
        Err(Broken::Service) => entry.ended(Outcome::ServiceGone),
    }
}

/// How the client's connection is closed.
enum End {
    Closed,
    Reset,
}

/// Takes the request's body up to the rule's point and does there what it says.
async fn interrupt(client: &mut Client, head: &Head, address: SocketAddr, entry: &Entry<'_>) -> Result<End, Broken> {
    let forward = entry.fault.stop().is_some_and(|(_, forward)| forward);
    let mut service = if forward { Some(Service::connect(address, head).await?) } else { None };
    let writer = service.as_mut().map(|service| &mut service.writer);
    upload(&mut client.reader, head.request_framing(), writer, entry).await?;
    match &entry.fault {
        Fault::Stall { .. } => {
            entry.ended(Outcome::Stalled);
            entry.reached();
            // A client that has gone cannot say so behind data that nobody reads.
            tokio::select! {
                () = hung_up(&client.socket) => {}
                () = entry.removed() => {}
            }
            Ok(End::Closed)
        }
        Fault::Status { code, headers, body, .. } => {
            let mut answer = Head::response(*code);
            answer.headers.clone_from(headers);
            answer.set("Content-Length", &body.len().to_string());
            answer.set("Connection", "close");
            entry.ended(Outcome::Replied(*code));
            entry.reached();
            answer.write(&mut client.writer).await.map_err(|_| Broken::Client)?;
            let body = if head.request_line().0 == "HEAD" { &[][..] } else { body };
            write_piece(&mut client.writer, Framing::ToEnd, body).await.map_err(|_| Broken::Client)?;
            Ok(End::Closed)
        }
        _ => {
            entry.ended(Outcome::Reset);
            entry.reached();
            Ok(End::Reset)
        }
    }
}

/// The service's side.
struct Service {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Service {
    /// Connects and sends the request's head.
    async fn connect(address: SocketAddr, head: &Head) -> Result<Self, Broken> {
        let stream = TcpStream::connect(address).await.map_err(|_| Broken::Service)?;
        let (reader, mut writer) = stream.into_split();
        head.write(&mut writer).await.map_err(|_| Broken::Service)?;
        Ok(Self { reader: BufReader::with_capacity(64 * 1024, reader), writer })
    }
}

/// Passes the request's body on, or throws it away without a writer, to its end or to where the fault stops it.
async fn upload(
    reader: &mut BufReader<ReadHalf<Box<dyn Stream>>>,
    framing: Framing,
    mut writer: Option<&mut OwnedWriteHalf>,
    entry: &Entry<'_>,
) -> Result<(), Broken> {
    let (mut passage, mut seen, mut body) = (Passage::of(&entry.fault), 0, Body::new(framing));
    loop {
        if passage.mark.is_some_and(|mark| seen >= mark) {
            passage.mark = None;
            entry.reached();
            if matches!(entry.fault, Fault::Hold { .. }) {
                entry.removed().await;
            }
        }
        if passage.stop.is_some_and(|stop| seen >= stop) {
            return Ok(());
        }
        let piece = body.next(reader, passage.most(seen)).await.map_err(|_| Broken::Client)?;
        let ended = piece.is_none();
        let mut piece = piece.unwrap_or_default();
        entry.came(&piece);
        if let Some(at) = passage.corrupt.filter(|at| (seen..seen + piece.len() as u64).contains(at)) {
            piece[usize::try_from(at - seen).unwrap()] ^= 1;
        }
        seen += piece.len() as u64;
        // The end of a body that was to be stopped is not passed on, or the service would do its work.
        if let Some(writer) = writer.as_deref_mut().filter(|_| !(ended && passage.stop.is_some())) {
            write_piece(writer, framing, &piece).await.map_err(|_| Broken::Service)?;
        }
        if ended {
            return Ok(());
        }
        passage.pause(piece.len()).await;
    }
}

/// Lets the service answer the request.
async fn relay(client: &mut Client, head: &Head, address: SocketAddr, entry: &Entry<'_>) -> Result<End, Broken> {
    let mut service = Service::connect(address, head).await?;
    let answer = {
        let upload = upload(&mut client.reader, head.request_framing(), Some(&mut service.writer), entry);
        let answer = final_head(&mut service.reader);
        match select(std::pin::pin!(upload), std::pin::pin!(answer)).await {
            Either::Left((Err(Broken::Client), _)) => return Err(Broken::Client),
            // A service that answers early may close before the body's end; its answer counts.
            Either::Left((_, answer)) => tokio::select! {
                answer = answer => answer,
                () = hung_up(&client.socket) => return Err(Broken::Client),
            },
            Either::Right((answer, _)) => answer,
        }
    };
    let answer = answer.map_err(|_| Broken::Service)?;
    download(client, answer, &head.request_line().0, &mut service.reader, entry).await
}

/// The head of the answer that counts, after those with 1xx.
async fn final_head(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Head> {
    loop {
        let head = Head::read(reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if head.status() >= 200 {
            return Ok(head);
        }
    }
}

/// Passes the answer back, or as much of it as the fault allows.
async fn download(
    client: &mut Client,
    mut head: Head,
    method: &str,
    reader: &mut BufReader<OwnedReadHalf>,
    entry: &Entry<'_>,
) -> Result<End, Broken> {
    let (status, framing) = (head.status(), head.response_framing(method));
    let mut body = Body::new(framing);
    if matches!(entry.fault, Fault::LoseResponse) {
        body.rest(reader).await.map_err(|_| Broken::Service)?;
        entry.ended(Outcome::LostResponse(status));
        entry.reached();
        return Ok(End::Reset);
    }
    if let Fault::ReplaceResponse { code } = entry.fault {
        body.rest(reader).await.map_err(|_| Broken::Service)?;
        entry.ended(Outcome::Replaced(status, code));
        entry.reached();
        let mut answer = Head::response(code);
        answer.set("Content-Length", "0");
        answer.set("Connection", "close");
        answer.write(&mut client.writer).await.map_err(|_| Broken::Client)?;
        return Ok(End::Closed);
    }
    let stop = match entry.fault {
        Fault::TruncateResponse { after } | Fault::StallResponse { after } => Some(after),
        _ => None,
    };
    let passage = Passage { stop, mark: None, ..Passage::of(&entry.fault) };
    head.set("Connection", "close");
    entry.ended(Outcome::Answered(status));
    head.write(&mut client.writer).await.map_err(|_| Broken::Client)?;
    let mut seen = 0;
    loop {
        if stop.is_some_and(|stop| seen >= stop) {
            return cut_response(&client.socket, status, entry).await;
        }
        let piece = body.next(reader, passage.most(seen)).await.map_err(|_| Broken::Service)?;
        let ended = piece.is_none();
        let piece = piece.unwrap_or_default();
        seen += piece.len() as u64;
        write_piece(&mut client.writer, framing, &piece).await.map_err(|_| Broken::Client)?;
        if ended {
            return Ok(End::Closed);
        }
        passage.pause(piece.len()).await;
    }
}

/// Ends an answer before its end, or never.
async fn cut_response(client: &TcpStream, status: u16, entry: &Entry<'_>) -> Result<End, Broken> {
    let stalled = matches!(entry.fault, Fault::StallResponse { .. });
    entry.ended(if stalled { Outcome::Stalled } else { Outcome::Truncated(status) });
    entry.reached();
    if stalled {
        hung_up(client).await;
    }
    Ok(End::Closed)
}
