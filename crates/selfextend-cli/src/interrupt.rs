//! Ctrl-C, whose effect depends on what the command is doing.

use crate::{error, progress};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

/// How long clearing up may take before the process ends anyway.
const GRACE: Duration = Duration::from_secs(3);

static MODE: AtomicU8 = AtomicU8::new(Mode::Exit as u8);
static ASKED: AtomicBool = AtomicBool::new(false);

/// What Ctrl-C does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Ends the process at once.
    Exit,
    /// Asks for a stop, see [`asked`]; a second one ends the process.
    Ask,
    /// Gives the work a moment to clear up.
    WindDown,
}

/// Installs the handler. If that fails, Ctrl-C keeps the system's default.
pub fn install() {
    let _ = ctrlc::set_handler(on_interrupt);
}

/// A mode that lasts as long as this value.
#[derive(Debug)]
pub struct Scope(u8);

/// Changes what Ctrl-C does, until the returned value is dropped.
pub fn scope(mode: Mode) -> Scope {
    ASKED.store(false, Ordering::SeqCst);
    Scope(MODE.swap(mode as u8, Ordering::SeqCst))
}

impl Drop for Scope {
    fn drop(&mut self) {
        MODE.store(self.0, Ordering::SeqCst);
    }
}

/// Whether Ctrl-C was pressed since the current scope began.
pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

fn on_interrupt() {
    let mode = MODE.load(Ordering::SeqCst);
    let again = ASKED.swap(true, Ordering::SeqCst);
    if mode == Mode::Ask as u8 && !again {
        return;
    }
    if mode == Mode::WindDown as u8 && !again {
        // The main thread ends the process, unless it hangs; this thread must stay free.
        std::thread::spawn(|| {
            std::thread::sleep(GRACE);
            exit()
        });
        return;
    }
    exit()
}

fn exit() {
    progress::clear();
    if std::io::stdout().is_terminal() {
        // The shell's prompt begins on a line of its own.
        let _ = writeln!(std::io::stderr());
    }
    std::process::exit(error::INTERRUPTED.into())
}
