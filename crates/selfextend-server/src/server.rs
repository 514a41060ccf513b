//! Sockets, connections, and an orderly end.

use crate::api::{self, App};
use crate::config::Config;
use crate::ladder::Ladder;
use crate::prefix::{Disk, DiskCache, PrefixCache};
use crate::scheduler::Scheduler;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use selfextend::TextModel;
use std::future::Future;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --host and --port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// One full context does not fit the budget.
    #[error(
        "a context of {context} tokens needs {needed} bytes for its keys and values, but --kv-memory allows {budget}; raise it, lower --context, or use --kv-type q8_0"
    )]
    Memory {
        /// The largest context in tokens.
        context: usize,
        /// Bytes it needs.
        needed: usize,
        /// The budget.
        budget: usize,
    },
    /// The cache directory cannot be used.
    #[error("cannot keep prefixes in {dir}: {source}; choose another --cache-dir")]
    CacheDir {
        /// The directory.
        dir: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The runtime, a thread or the metrics cannot be started.
    #[error("cannot start the server: {0}")]
    Start(String),
    /// The engine has no kernels or no memory for the sessions.
    #[error(transparent)]
    Engine(#[from] selfextend::Error),
}

/// Seconds: from a decode step to the prefill of a long document.
const BUCKETS: [f64; 16] = [
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0,
];

/// The process's metrics; a process has one recorder however many servers it runs.
fn recorder() -> Result<PrometheusHandle, ServerError> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    let install = || {
        let seconds = Matcher::Suffix("_seconds".into());
        let batches = Matcher::Full("selfextend_decode_batch".into());
        PrometheusBuilder::new()
            .set_buckets_for_metric(seconds, &BUCKETS)
            .and_then(|b| {
                b.set_buckets_for_metric(batches, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
            })
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| error.to_string())
    };
    HANDLE
        .get_or_init(install)
        .clone()
        .map_err(ServerError::Start)
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
}

impl Server {
    /// Starts the scheduler and listens; connections are served by [`Server::run`].
    ///
    /// # Errors
    /// [`ServerError`] when the address is taken or the memory budget holds no full context.
    pub async fn bind(
        config: Config,
        text: Arc<TextModel>,
        ladder: Ladder,
    ) -> Result<Self, ServerError> {
        let metrics = recorder()?;
        let ladder = Arc::new(ladder);
        let address = config.listen;
        let limits = config.scheduler;
        let needed = Scheduler::full_context(&text, &ladder)?;
        if needed > limits.kv_memory {
            return Err(ServerError::Memory {
                context: ladder.context(),
                needed,
                budget: limits.kv_memory,
            });
        }
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ServerError::Listen { address, source })?;
        let mut prefixes = PrefixCache::new(ladder.rungs().len());
        if let Some(settings) = &config.disk {
            load_prefixes(settings, &text, &ladder, limits.kv_memory, &mut prefixes)?;
        }
        let scheduler = Scheduler::start(text.clone(), ladder.clone(), limits, prefixes)?;
        metrics::gauge!("selfextend_kv_budget_bytes").set(limits.kv_memory as f64);
        let app = Arc::new(App::new(config, text, ladder, scheduler, metrics));
        Ok(Self { listener, app })
    }

    /// Where it listens: the port, where none was asked for.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`; then takes no more requests, lets what runs end within the grace
    /// period, and fails what does not.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, app } = self;
        let graceful = GracefulShutdown::new();
        let connections = Arc::new(Semaphore::new(app.config.http.connections));
        let router = api::router(app.clone());
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&listener, &connections) => {
                    if let Some((stream, permit)) = accepted {
                        connect(stream, permit, &router, &app, &graceful);
                    }
                }
            }
        }
        drop(listener);
        tracing::info!("shutting down: waiting for what runs");
        app.scheduler.drain();
        let end = graceful.shutdown();
        tokio::pin!(end);
        if tokio::time::timeout(app.config.grace, &mut end)
            .await
            .is_err()
        {
            tracing::warn!("the grace period is over: failing what still runs");
            stop(&app).await;
            // Clients that do not read what they are told lose their connection.
            let _ = tokio::time::timeout(Duration::from_secs(2), end).await;
        }
        stop(&app).await;
    }
}

/// Takes what an earlier server left on disk, and goes on keeping prefixes there.
fn load_prefixes(
    settings: &DiskCache,
    text: &TextModel,
    ladder: &Ladder,
    room: usize,
    prefixes: &mut PrefixCache,
) -> Result<(), ServerError> {
    let disk = Disk::open(settings.clone()).map_err(|source| ServerError::CacheDir {
        dir: settings.dir.clone(),
        source,
    })?;
    let sessions = ladder
        .rungs()
        .iter()
        .map(|rung| text.model.session(rung.options.clone()));
    prefixes.load(&disk, &sessions.collect::<Result<Vec<_>, _>>()?, room);
    tracing::info!(
        blocks = prefixes.len(),
        bytes = prefixes.bytes(),
        "prefixes from disk"
    );
    prefixes.keep_on(disk);
    Ok(())
}

async fn stop(app: &Arc<App>) {
    let app = app.clone();
    let stopped = tokio::task::spawn_blocking(move || app.scheduler.stop()).await;
    if let Err(error) = stopped {
        tracing::error!(%error, "cannot stop the scheduler");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            // Out of file descriptors, most likely: some will be free again soon.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn connect(
    stream: TcpStream,
    permit: OwnedSemaphorePermit,
    router: &Router,
    app: &Arc<App>,
    graceful: &GracefulShutdown,
) {
    let limits = app.config.http;
    // Tokens are small and should not wait for company.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.clone());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.headers.max(8192))
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection");
        }
        drop(permit);
    });
}

/// Writes the log to stderr: lines for people, or JSON. `RUST_LOG` chooses what; without it,
/// requests and remarks.
pub fn log_to_stderr(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(!plain && std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // An error means that the caller's own log is there already.
    let _ = if json {
        log.json().try_init()
    } else {
        log.with_target(false).try_init()
    };
}

/// Serves until SIGINT or SIGTERM; `ready` is told the address once it listens.
///
/// # Errors
/// [`ServerError`] when the server cannot start.
pub fn serve(
    config: Config,
    text: TextModel,
    ladder: Ladder,
    ready: &mut dyn FnMut(SocketAddr),
) -> Result<(), ServerError> {
    let failed = |error: std::io::Error| ServerError::Start(error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(failed)?;
    let result = runtime.block_on(async {
        let server = Server::bind(config, Arc::new(text), ladder).await?;
        ready(server.address().map_err(failed)?);
        let upkeep = tokio::spawn(keep_up(server.app.metrics.clone()));
        let started = Instant::now();
        server.run(asked_to_end()).await;
        upkeep.abort();
        tracing::info!(served_s = started.elapsed().as_secs(), "ended");
        Ok(())
    });
    // Whoever still tokenises a document is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

async fn asked_to_end() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}
