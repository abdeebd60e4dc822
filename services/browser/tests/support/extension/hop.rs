//! A hop between the extension and its relay that tests can cut.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Gives the port to name instead of the relay's. The watched value is the relay's port, and whether the hop is open.
/// The relay refuses a Host that is not its own, so the hop names the relay's.
pub async fn hop(to: tokio::sync::watch::Receiver<(u16, bool)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut to = to.clone();
            tokio::spawn(async move {
                let (port, open) = *to.borrow_and_update();
                if !open {
                    return;
                }
                let relay = async {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(near.read_u8().await?);
                    }
                    let (ours, its) = (format!("127.0.0.1:{through}"), format!("127.0.0.1:{port}"));
                    let head = String::from_utf8_lossy(&head).replace(&ours, &its);
                    far.write_all(head.as_bytes()).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                };
                // However it ends, the extension comes back.
                tokio::select! {
                    _ = relay => {}
                    _ = to.changed() => {}
                }
            });
        }
    });
    through
}
