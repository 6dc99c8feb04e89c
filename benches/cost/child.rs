//! Parts of the benchmark that run as processes of their own, so that their cost is counted
//! separately.

use crate::drive::Latencies;
use crate::sample::Quantiles;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The roles of this executable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    Sink,
    HttpFloor,
    AmqpFloor,
}

impl Role {
    const ALL: [Self; 3] = [Self::Sink, Self::HttpFloor, Self::AmqpFloor];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::HttpFloor => "http-floor",
            Self::AmqpFloor => "amqp-floor",
        }
    }

    /// The role of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// A process that plays a role and reports line by line. It ends with its input, so at the latest
/// with this process.
pub(crate) struct Part {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Part {
    pub(crate) fn start(role: Role, arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this one");
        Self::start_program(Command::new(program).arg(role.as_str()).args(arguments))
    }

    /// The same with another program.
    pub(crate) fn start_program(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, input, output }
    }

    /// The next line that it says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).expect("text");
        assert!(read > 0, "a part of the benchmark ended early");
        line.trim_end().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it an order and reads its answer.
    pub(crate) fn ask(&mut self, order: impl Display) -> String {
        let input = self.input.as_mut().expect("open until the end");
        writeln!(input, "{order}").and_then(|()| input.flush()).expect("it reads");
        self.line()
    }

    /// The same, but for an answer that is a number.
    pub(crate) fn ask_number(&mut self, order: impl Display) -> u64 {
        self.ask(order).parse().expect("a number")
    }

    /// Ends a load and reads its measurements.
    pub(crate) fn ask_latencies(&mut self) -> Latencies {
        let answer = self.ask("end");
        let mut words = answer.split_whitespace();
        let exchanges = Quantiles::of_words(&mut words);
        let lateness = Quantiles::of_words(&mut words);
        let failed = words.next().and_then(|word| word.parse().ok()).expect("a number");
        Latencies { exchanges, lateness, failed }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.input = None;
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ends this process when its input does. For roles that take no orders.
pub(crate) fn end_with_input() {
    std::thread::spawn(|| {
        std::io::stdin().lines().map_while(Result::ok).for_each(drop);
        std::process::exit(0);
    });
}
