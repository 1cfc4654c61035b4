//! A network that loses replies after the server has acted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Hands requests on, and swallows three of ten replies.
pub(crate) struct Swallower {
    pub(crate) address: String,
    replies: Arc<AtomicU64>,
    swallowed: Arc<AtomicU64>,
}

impl Swallower {
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (server, swallowed) = (server.to_owned(), Arc::<AtomicU64>::default());
        let (replies, counter) = (Arc::<AtomicU64>::default(), Arc::clone(&swallowed));
        let all = Arc::clone(&replies);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let (replies, counter) = (Arc::clone(&all), Arc::clone(&counter));
                tokio::spawn(hand_on(client, server, replies, counter));
            }
        });
        Self { address, replies, swallowed }
    }

    /// How many replies nobody got, and of how many.
    pub(crate) fn swallowed(&self) -> (u64, u64) {
        (self.swallowed.load(Ordering::Relaxed), self.replies.load(Ordering::Relaxed))
    }
}

/// One request is on its way at a time, so what the server says in one go is one reply.
async fn hand_on(
    mut client: TcpStream,
    mut server: TcpStream,
    replies: Arc<AtomicU64>,
    swallowed: Arc<AtomicU64>,
) {
    let (mut request, mut reply) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(length @ 1..) = read else { return };
                if server.write_all(&request[..length]).await.is_err() { return }
            }
            read = server.read(&mut reply) => {
                let Ok(length @ 1..) = read else { return };
                if replies.fetch_add(1, Ordering::Relaxed) % 10 < 3 {
                    swallowed.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                if client.write_all(&reply[..length]).await.is_err() { return }
            }
        }
    }
}
