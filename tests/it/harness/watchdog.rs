//! Runs one server process so that neither it nor its directory outlives the test process.
//!
//! The server is the child of a small shell, which takes its orders from a pipe that only the test
//! process has. However the test process ends, even by SIGKILL, the pipe closes. Then the shell
//! kills its child (by its process id, which no other process can get before the shell has reaped
//! the child) and removes the directory.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `$1` is the directory, the rest is the server's command line.
const SCRIPT: &str = r#"
dir=$1
shift
server=
end() {
    if [ -n "$server" ]; then
        kill -KILL "$server"
        wait "$server"
        server=
    fi
}
trap '' HUP INT TERM
while read -r order argument; do
    case $order in
        start)
            "$@" </dev/null >>"$dir/output" 2>&1 &
            server=$!
            echo "$server"
            ;;
        signal)
            if [ -n "$server" ]; then kill "-$argument" "$server"; fi
            echo signalled
            ;;
        end)
            end
            echo ended
            ;;
    esac
done 2>/dev/null
end 2>/dev/null
rm -rf -- "$dir"
"#;

/// A shell that owns one server process and one directory.
#[derive(Debug)]
pub struct Watchdog {
    shell: Mutex<Shell>,
}

#[derive(Debug)]
struct Shell {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    server: Option<u32>,
}

impl Watchdog {
    /// Starts the shell, but not the server. From now on the shell removes `directory`.
    ///
    /// # Panics
    /// When there is no `sh`.
    pub fn over(directory: &Path, command: &[OsString], environment: &[(&str, PathBuf)]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(directory)
            .args(command)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LANG", "C.UTF-8")
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            // Ctrl-C goes to the whole process group of the test process, so this is another group.
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("starting the watchdog shell: {e}"));
        let orders = child.stdin.take();
        let Some(answers) = child.stdout.take() else {
            panic!("the watchdog shell has no standard output");
        };
        Self { shell: Mutex::new(Shell { child, orders, answers: BufReader::new(answers), server: None }) }
    }

    /// Starts the server process and returns its process id.
    ///
    /// # Panics
    /// When it is already running.
    pub fn start(&self) -> u32 {
        let mut shell = self.shell();
        assert!(shell.server.is_none(), "the server is already running");
        let answer = shell.order("start");
        let pid = answer.trim().parse().unwrap_or_else(|e| panic!("process id {answer:?}: {e}"));
        shell.server = Some(pid);
        pid
    }

    /// Sends a signal, named as `kill` names it (`STOP`, `CONT`, `TERM`), to the server.
    pub fn signal(&self, name: &str) {
        self.shell().order(&format!("signal {name}"));
    }

    /// Kills the server with SIGKILL, if it runs; returns when it is gone.
    pub fn kill(&self) {
        let mut shell = self.shell();
        shell.order("end");
        shell.server = None;
    }

    /// The server's process id, unless it was never started or was killed through here.
    pub fn pid(&self) -> Option<u32> {
        self.shell().server
    }

    /// Whether the server process was started and has not ended.
    pub fn is_alive(&self) -> bool {
        // A server that ended by itself is still listed, as a zombie, until it is reaped.
        self.state().is_some_and(|state| !"ZX".contains(state))
    }

    /// Whether the server process is stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        self.state() == Some('T')
    }

    /// The state letter that Linux shows for the server process.
    fn state(&self) -> Option<char> {
        let pid = self.pid()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }

    fn shell(&self) -> MutexGuard<'_, Shell> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shell {
    fn order(&mut self, order: &str) -> String {
        let mut answer = String::new();
        let told = match &mut self.orders {
            Some(orders) => writeln!(orders, "{order}").and_then(|()| orders.flush()),
            None => Ok(()),
        };
        let told = told.and_then(|()| self.answers.read_line(&mut answer));
        assert!(
            told.is_ok() && !answer.is_empty(),
            "the watchdog shell did not answer to {order:?}: {told:?}"
        );
        answer
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let mut shell = self.shell();
        shell.orders = None;
        // An error means that the shell is gone.
        drop(shell.child.wait());
    }
}
