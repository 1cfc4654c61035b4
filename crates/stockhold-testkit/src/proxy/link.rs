//! One connection through the proxy.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf, split},
    net::{TcpStream, UnixStream},
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    Direction, Upstream,
    gate::{Faults, Flow, Progress},
};

/// How a connection ends.
enum End {
    /// In good order: what was written arrives.
    Close,
    /// With an RST.
    Reset,
}

/// Bytes, and when they may go on.
type Piece = (Instant, Vec<u8>);

const PIECE: usize = 16 * 1024;
/// Enough for the bandwidth of a test times its latency; then the sender has to wait.
const PIECES: usize = 256;

pub(super) async fn serve(client: TcpStream, upstream: Upstream, told: watch::Receiver<Faults>) {
    let reset = {
        let mut told = told.clone();
        let seen = told.borrow().resets;
        async move {
            // An error is the end of the proxy.
            let _ = told.wait_for(|faults| faults.resets != seen).await;
        }
    };
    let Ok(server) = Stream::connect(&upstream).await else {
        reset_on_drop(&client);
        return;
    };
    let (mut client, mut server) = (Stream::Tcp(client), server);
    let _ = client.no_delay().and_then(|()| server.no_delay());
    let end = tokio::select! {
        () = reset => End::Reset,
        end = carry(&mut client, &mut server, &told) => end,
    };
    if matches!(end, End::Reset) {
        client.reset_on_drop();
        server.reset_on_drop();
    }
}

/// Both ways, until both have ended or one breaks.
async fn carry(client: &mut Stream, server: &mut Stream, told: &watch::Receiver<Faults>) -> End {
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let requests = one_way(Direction::Requests, from_client, to_server, told.clone());
    let replies = one_way(Direction::Replies, from_server, to_client, told.clone());
    tokio::pin!(requests, replies);
    let first = tokio::select! {
        end = &mut requests => end.map(|()| Direction::Requests),
        end = &mut replies => end.map(|()| Direction::Replies),
    };
    let both = match first {
        Ok(Direction::Requests) => replies.await,
        Ok(Direction::Replies) => requests.await,
        Err(end) => Err(end),
    };
    both.err().unwrap_or(End::Close)
}

/// Until the sender has no more to say; `Err` if the whole connection is to end.
async fn one_way(
    direction: Direction,
    from: ReadHalf<&mut Stream>,
    to: WriteHalf<&mut Stream>,
    told: watch::Receiver<Faults>,
) -> Result<(), End> {
    let (pieces, queue) = mpsc::channel(PIECES);
    let reading = read(direction, from, pieces, told.clone());
    let (read, written) = tokio::join!(reading, write(direction, queue, to, told));
    written.and(read)
}

async fn read(
    direction: Direction,
    mut from: ReadHalf<&mut Stream>,
    pieces: mpsc::Sender<Piece>,
    told: watch::Receiver<Faults>,
) -> Result<(), End> {
    loop {
        let mut bytes = Vec::with_capacity(PIECE);
        let read = tokio::select! {
            read = from.read_buf(&mut bytes) => read,
            () = pieces.closed() => return Ok(()),
        };
        // A broken connection is broken for both.
        if read.map_err(|_| End::Reset)? == 0 {
            return Ok(());
        }
        let due = now() + told.borrow().way(direction).delay;
        if pieces.send((due, bytes)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    direction: Direction,
    mut queue: mpsc::Receiver<Piece>,
    mut to: WriteHalf<&mut Stream>,
    mut told: watch::Receiver<Faults>,
) -> Result<(), End> {
    let mut progress = Progress::new(direction);
    while let Some((due, bytes)) = queue.recv().await {
        sleep_until(due).await;
        if swallows(direction, &mut told).await {
            return swallow(direction, queue, told).await;
        }
        let verdict = progress.judge(told.borrow().cut.as_ref(), &bytes);
        let written = to.write_all(&bytes[..verdict.pass]).await;
        written.map_err(|_| End::Reset)?;
        if verdict.close {
            let _ = to.shutdown().await;
            return Err(End::Close);
        }
    }
    // An end is a message as well.
    if swallows(direction, &mut told).await {
        return swallow(direction, queue, told).await;
    }
    to.shutdown().await.map_err(|_| End::Reset)
}

/// Waits while this way is stalled; whether what goes this way is then swallowed.
async fn swallows(direction: Direction, told: &mut watch::Receiver<Faults>) -> bool {
    let moves = told.wait_for(|faults| faults.way(direction).flow != Flow::Stall).await;
    moves.is_ok_and(|faults| faults.way(direction).flow == Flow::Swallow)
}

/// Takes whatever comes until it is healed. Then bytes are missing, and no more may pass.
async fn swallow(
    direction: Direction,
    mut queue: mpsc::Receiver<Piece>,
    mut told: watch::Receiver<Faults>,
) -> Result<(), End> {
    let healed = told.wait_for(|faults| faults.way(direction).flow == Flow::Pass);
    tokio::pin!(healed);
    loop {
        tokio::select! {
            _ = &mut healed => return Err(End::Reset),
            Some(_) = queue.recv() => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "delays are real, and the runtime counts them")]
fn now() -> Instant {
    Instant::now()
}

/// A connection of either kind.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    async fn connect(upstream: &Upstream) -> io::Result<Self> {
        Ok(match upstream {
            Upstream::Tcp(address) => Self::Tcp(TcpStream::connect(address).await?),
            Upstream::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
        })
    }

    fn no_delay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Unix(_) => Ok(()),
        }
    }

    /// A Unix socket has no RST: it is closed.
    fn reset_on_drop(&self) {
        if let Self::Tcp(stream) = self {
            reset_on_drop(stream);
        }
    }
}

fn reset_on_drop(stream: &TcpStream) {
    // It may be broken already.
    let _ = stream.set_zero_linger();
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
