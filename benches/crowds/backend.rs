//! Two servers in threads of their own: one sends back what comes, the other sends without an end.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;

use crate::Result;

/// Starts both, and returns their addresses.
pub fn start() -> Result<(SocketAddr, SocketAddr)> {
    Ok((serve(false)?, serve(true)?))
}

/// Serves as long as the process lives.
fn serve(is_endless: bool) -> Result<SocketAddr> {
    let (started, address) = mpsc::channel();
    let runtime = move || {
        Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
    };
    thread::spawn(move || {
        runtime().map(|runtime| {
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                started
                    .send(listener.local_addr()?)
                    .map_err(std::io::Error::other)?;
                loop {
                    let (stream, _) = listener.accept().await?;
                    // A client may go away.
                    spawn_local(async move { drop(answer(stream, is_endless).await) });
                }
                #[expect(unreachable_code, reason = "it names the type")]
                std::io::Result::Ok(())
            })
        })
    });
    Ok(address.recv()?)
}

async fn answer(mut stream: TcpStream, is_endless: bool) -> std::io::Result<()> {
    let mut buffer = vec![0; 4 << 10];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream
            .write_all(buffer.get(..count).unwrap_or_default())
            .await?;
        if is_endless {
            loop {
                stream.write_all(&buffer).await?;
            }
        }
    }
}
