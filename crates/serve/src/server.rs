//! Listening, and ending well: readiness goes first, then the listener, then what is still being made.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use crate::audit::Audit;
use crate::batches;
use crate::chats;
use crate::guard::{Key, PUBLIC_NEEDS_KEY, is_loopback};
use crate::keys::Keys;
use crate::limits;
use crate::models::{Keep, SWEEP};
use crate::refusal::Refusal;
use crate::registry::Lending;
use crate::routes::router;
use crate::served::{Loader, Served};
use crate::state::Server;
use crate::tls::{self, TlsFiles};

/// How to serve.
#[derive(Clone)]
pub struct Options {
    /// Where; port 0 takes any that is free.
    pub address: SocketAddr,
    /// Who may ask; everybody where absent, which is for loopback only.
    pub key: Option<Key>,
    /// Further keys, from their file.
    pub keys: Option<Arc<Keys>>,
    /// The key of programs on this machine that read where the server is.
    pub control: Option<Key>,
    /// Certificate and key; plain HTTP where absent.
    pub tls: Option<TlsFiles>,
    /// Where requests are told.
    pub audit: Option<Arc<Audit>>,
    /// Connections that are held at once.
    pub connections: usize,
    /// Origins whose pages may ask from a browser.
    pub origins: Vec<String>,
    /// Fields that are not known are listed instead of refused.
    pub lenient: bool,
    /// Answers of one model that are made at once: what its engine was started with.
    pub slots: usize,
    /// Answers that may wait; eight for each slot where absent.
    pub queue: Option<usize>,
    /// Whether there is a web page, with its chats.
    pub page: bool,
    /// The file in which chats are kept; absent, they end with the program.
    pub chats: Option<PathBuf>,
    /// The file in which uploaded files and batches are kept; absent, they end with the program.
    pub batches: Option<PathBuf>,
    /// For how long the listener stays when the end was asked for by SIGTERM: balancers learn it from `/readyz`.
    pub linger: Duration,
    /// For how long answers may go on after that.
    pub drain: Duration,
    /// For how long the head of a request may be on its way.
    pub head_time: Duration,
    /// The models of this machine, lent to others.
    pub registry: Option<Lending>,
    /// Whether what is computed for one key is of use to the others as well.
    pub share_prefix: bool,
    /// Loads models that requests name; where absent only those that are given are served.
    pub loader: Option<Arc<dyn Loader>>,
    /// Bytes that all models may take together.
    pub memory: u64,
    /// For how long a model that was loaded for a request stays when nobody asks for it.
    pub keep: Keep,
    /// Whether the address is loopback; set by [`start`].
    pub loopback: bool,
}

impl Options {
    /// The defaults at an address.
    pub fn new(address: SocketAddr) -> Options {
        Options {
            address,
            key: None,
            keys: None,
            control: None,
            tls: None,
            audit: None,
            connections: limits::CONNECTIONS,
            origins: Vec::new(),
            lenient: false,
            slots: 16,
            queue: None,
            page: true,
            chats: None,
            batches: None,
            linger: Duration::from_secs(3),
            drain: Duration::from_secs(25),
            head_time: limits::HEAD_TIME,
            registry: None,
            share_prefix: false,
            loader: None,
            memory: u64::MAX,
            keep: Keep::For(Duration::from_secs(300)),
            loopback: is_loopback(address.ip()),
        }
    }
}

/// Why serving does not begin, or ends.
#[derive(Debug)]
pub enum StartError {
    /// The options do not go together.
    Options(String),
    /// The system refuses.
    System(std::io::Error),
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> StartError {
        StartError::System(error)
    }
}

/// A server that listens.
pub struct Listening {
    /// Where it can be reached.
    pub address: SocketAddr,
    server: Arc<Server>,
    handle: Handle<SocketAddr>,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    /// Looks after the certificate.
    following: Option<tokio::task::JoinHandle<()>>,
}

/// Begins to listen. Called inside a runtime.
///
/// # Errors
/// When an address that others can reach has no key, or it cannot be taken.
pub async fn start(models: Vec<Served>, mut options: Options) -> Result<Listening, StartError> {
    options.loopback = is_loopback(options.address.ip());
    let has_key = options.key.is_some() || options.keys.as_ref().is_some_and(|keys| keys.usable());
    if !options.loopback && !has_key {
        return Err(StartError::Options(PUBLIC_NEEDS_KEY.to_owned()));
    }
    options.chats = options.chats.filter(|_| options.page);
    let chats = kept(&mut options.chats, chats::Book::open)?;
    let batches = kept(&mut options.batches, batches::Book::open)?;
    let tls = match options.tls.clone() {
        Some(files) => Some((files.read().map_err(StartError::Options)?, files)),
        None => None,
    };
    let listener = listen(options.address)?;
    let (address, head_time) = (listener.local_addr()?, options.head_time);
    let server = Arc::new(Server::new(models, options, chats, batches));
    let handle = Handle::new();
    sweep(&server);
    let unread = |refusal: Refusal| StartError::Options(refusal.message);
    batches::go_on(&server).await.map_err(unread)?;
    let routes = router(server.clone()).into_make_service();
    let door = server.door.clone();
    let (serving, following) = match tls {
        None => {
            let listening = axum_server::from_tcp(listener)?.acceptor(door);
            (tokio::spawn(bounded(listening, &handle, head_time).serve(routes)), None)
        }
        Some((config, files)) => {
            let config = RustlsConfig::from_config(config);
            let following = tokio::spawn(tls::follow(files, config.clone()));
            let acceptor = RustlsAcceptor::new(config).handshake_timeout(head_time).acceptor(door);
            let listening = axum_server::from_tcp(listener)?.acceptor(acceptor);
            (tokio::spawn(bounded(listening, &handle, head_time).serve(routes)), Some(following))
        }
    };
    Ok(Listening { address, server, handle, serving, following })
}

/// Lets models go whose time is over, and files that were kept long enough, as long as there is a server.
fn sweep(server: &Server) {
    // Freeing weights takes its time.
    again(SWEEP, &server.models, |models| models.sweep());
    again(SWEEP_FILES, &server.batches, |batches| batches.sweep());
}

/// Does work again and again, on a thread that may wait, as long as there is what it is done for.
fn again<T: Send + Sync + 'static>(every: Duration, of: &Arc<T>, work: fn(&T)) {
    let of = Arc::downgrade(of);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let Some(of) = of.upgrade() else { return };
            let _ = tokio::task::spawn_blocking(move || work(&of)).await;
        }
    });
}

/// Between two looks at which files were kept long enough.
const SWEEP_FILES: Duration = Duration::from_secs(60);

/// What is kept in a file, or what ends with the program: a server whose folders cannot be written serves all the same,
/// and the page says what that means.
fn kept<T>(file: &mut Option<PathBuf>, open: fn(Option<&Path>) -> Result<T, String>) -> Result<T, StartError> {
    if let Some(path) = file.take() {
        match open(Some(&path)) {
            Ok(opened) => {
                *file = Some(path);
                return Ok(opened);
            }
            Err(error) => eprintln!("warning: {error}; this server keeps them only until it ends"),
        }
    }
    open(None).map_err(StartError::Options)
}

/// A listener whose connections take little of the system's memory when their clients do not read.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(limits::SEND_BYTES)?;
    socket.bind(address)?;
    let listener = socket.listen(1024)?.into_std()?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A server with the limits of heads.
fn bounded<A>(
    listening: axum_server::Server<SocketAddr, A>,
    handle: &Handle<SocketAddr>,
    head_time: Duration,
) -> axum_server::Server<SocketAddr, A> {
    let mut listening = listening.handle(handle.clone()).http1_only();
    listening
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_time)
        .max_headers(limits::HEADERS)
        .max_buf_size(limits::HEAD_BYTES);
    listening
}

impl Listening {
    /// Waits until a client with the right to do so asks for the end.
    pub async fn asked_to_end(&self) {
        self.server.asked_to_end.notified().await;
    }

    /// Ends: readiness at once, the listener after `linger`, answers after `drain`, which then end with an error.
    ///
    /// # Errors
    /// When the listener had failed.
    pub async fn end(self, linger: Duration) -> Result<(), StartError> {
        let drain = self.server.options.drain;
        self.server.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(linger).await;
        // A little longer than answers may take, so that their last words go out.
        self.handle.graceful_shutdown(Some(drain + Duration::from_secs(2)));
        let server = self.server.clone();
        let last = tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            server.stop.send_replace(true);
        });
        let ended = self.serving.await;
        last.abort();
        if let Some(following) = self.following {
            following.abort();
        }
        ended.map_err(std::io::Error::other)??;
        Ok(())
    }
}

/// Serves until the program is told to end. `tell` is given the address when there is one.
///
/// # Errors
/// As [`start`]; also when the system gives no threads.
pub fn run(models: Vec<Served>, options: Options, tell: impl FnOnce(SocketAddr)) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (audit, keys) = (options.audit.clone(), options.keys.clone());
    let result = runtime.block_on(async {
        let linger = options.linger;
        let mut signals = Signals::new()?;
        let listening = start(models, options).await?;
        tell(listening.address);
        let linger = tokio::select! {
            terminated = signals.next() => if terminated { linger } else { Duration::ZERO },
            () = listening.asked_to_end() => linger,
        };
        let (ended, told) = oneshot::channel();
        let end = tokio::spawn(async move {
            let result = listening.end(linger).await;
            let _ = ended.send(());
            result
        });
        tokio::select! {
            // The second signal ends at once.
            _ = signals.next() => Ok(()),
            _ = told => end.await.map_err(std::io::Error::other)?,
        }
    });
    // Work that cannot be stopped is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    // What was answered is told, and what was used is counted, before the program ends.
    if let Some(audit) = audit {
        audit.finish();
    }
    if let Some(keys) = keys {
        keys.finish();
    }
    result
}

/// What tells the program to end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one; true for the one that supervisors send.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {})
    }

    async fn next(&mut self) -> bool {
        let _ = tokio::signal::ctrl_c().await;
        false
    }
}
