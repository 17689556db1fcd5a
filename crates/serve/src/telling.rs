//! Streams as bodies: a task takes the engine's events, says them in the words of the API, and hands the parts to the
//! connection. It ends, and the answer with it, when the client leaves or does not read.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use pasture_engine::Event;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::bridge::Run;
use crate::limits;
use crate::refusal::Refusal;

/// Says events in the words of an API.
pub trait Teller: Send + 'static {
    /// The type of the body.
    const TYPE: &'static str;

    /// What comes first.
    fn begin(&mut self) -> String;

    /// An event; possibly nothing.
    fn event(&mut self, request: usize, event: Event) -> String;

    /// What comes last.
    fn end(&mut self) -> String;

    /// An error in the midst.
    fn fail(&mut self, refusal: &Refusal) -> String;
}

/// The answer whose body is told.
pub fn tell(run: Run, teller: impl Teller) -> Response {
    fn kind<T: Teller>(_: &T) -> &'static str {
        T::TYPE
    }
    let kind = kind(&teller);
    let (sender, parts) = channel(limits::UNREAD_PARTS);
    tokio::spawn(pump(run, teller, sender));
    let mut response = Response::new(Body::from_stream(Parts(parts)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies are asked not to gather a stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn pump(mut run: Run, mut teller: impl Teller, parts: Sender<String>) {
    let begin = teller.begin();
    if !put(&parts, begin).await {
        return;
    }
    loop {
        let event = tokio::select! {
            event = run.next() => event,
            () = parts.closed() => return,
        };
        let (part, last) = match event {
            Some(Ok((at, event))) => (teller.event(at, event), false),
            Some(Err(refusal)) => (teller.fail(&refusal), true),
            None => (teller.end(), true),
        };
        if !put(&parts, part).await || last {
            return;
        }
    }
}

/// False when the client is gone, or reads too slowly.
async fn put(parts: &Sender<String>, part: String) -> bool {
    part.is_empty() || parts.send_timeout(part, limits::READ_TIME).await.is_ok()
}

/// Parts of a body as they come.
pub struct Parts<T>(pub Receiver<T>);

impl<T> futures_core::Stream for Parts<T> {
    type Item = Result<T, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|part| part.map(Ok))
    }
}
