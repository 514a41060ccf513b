//! Sockets, connections, and an orderly end.

use crate::api::{self, App};
use crate::config::{DiskCacheConfig, ServerConfig};
use crate::error::ServerError;
use crate::ladder::Ladder;
use crate::prefix::{Disk, PrefixCache};
use crate::recorder;
use crate::scheduler::{Scheduler, full_context_bytes};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use selfextend::TextModel;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
        config: ServerConfig,
        text: Arc<TextModel>,
        ladder: Ladder,
    ) -> Result<Self, ServerError> {
        let metrics = recorder::install()?;
        let ladder = Arc::new(ladder);
        let address = config.listen;
        let limits = config.scheduler;
        let needed = full_context_bytes(&text, &ladder)?;
        if needed > limits.kv_memory {
            return Err(ServerError::KvMemory {
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

    /// The address it listens on, with the port that was chosen where 0 was asked for.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`. Then it takes no more requests, lets those that run finish within the
    /// grace period, and fails the others.
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
        tracing::info!("shutting down: waiting for running requests");
        app.scheduler.drain();
        let end = graceful.shutdown();
        tokio::pin!(end);
        if tokio::time::timeout(app.config.grace, &mut end)
            .await
            .is_err()
        {
            tracing::warn!("the grace period is over: failing the requests that still run");
            stop(&app).await;
            // Clients that do not read their error lose their connection.
            let _ = tokio::time::timeout(Duration::from_secs(2), end).await;
        }
        stop(&app).await;
    }
}

/// Loads what an earlier server left on disk, and keeps prefixes there from now on.
fn load_prefixes(
    settings: &DiskCacheConfig,
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
            // Most likely out of file descriptors, of which some will be free again soon.
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
    // Tokens are small and should not wait to be sent together.
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

/// Serves until SIGINT or SIGTERM; `ready` is told the address once it listens.
///
/// # Errors
/// [`ServerError`] when the server cannot start.
pub fn serve(
    config: ServerConfig,
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
    // Threads that still tokenise a document are not waited for.
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
