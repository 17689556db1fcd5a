//! How many connections are held at once. One too many is closed as it comes: nothing of it is read or kept.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lets so many connections in.
#[derive(Clone, Debug)]
pub struct Door {
    places: Arc<Semaphore>,
    limit: usize,
}

impl Door {
    /// A door for so many.
    pub fn new(limit: usize) -> Door {
        Door { places: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Connections that are held now.
    pub fn held(&self) -> usize {
        self.limit - self.places.available_permits()
    }
}

impl<S> Accept<TcpStream, S> for Door {
    type Stream = Held;
    type Service = S;
    type Future = std::future::Ready<io::Result<(Held, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let full = |_| io::Error::other("too many connections");
        let held = self.places.clone().try_acquire_owned().map_err(full);
        let held = held.and_then(|place| {
            // Parts of a stream are small, and each is waited for.
            stream.set_nodelay(true)?;
            Ok((Held { stream, _place: place }, service))
        });
        std::future::ready(held)
    }
}

/// A connection with its place.
#[derive(Debug)]
pub struct Held {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
