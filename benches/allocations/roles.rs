//! The roles of this executable as a child process: the sink, a floor or amqpost, which counts its
//! blocks when told to.

use crate::amqp_floor::{self, Publisher};
use crate::child::end_with_input;
use crate::drive::Worker;
use crate::subjects::{BYTES, QUEUE};
use crate::{http_floor, sink};
use lapin::options::ConfirmSelectOptions;
use std::path::Path;
use std::process::ExitCode;
use tokio::runtime::Runtime;

/// The frames of a backtrace: enough to reach one of this project.
const FRAMES: usize = 80;

/// Plays the role that the arguments name; false when they name none.
pub(crate) fn play(arguments: &[&str]) -> bool {
    match arguments {
        ["sink"] => {
            end_with_input();
            let sink = sink::Sink::listen().expect("a free port");
            println!("{}", sink.address().expect("it is bound"));
            sink.serve().expect("it accepts");
        }
        ["http-floor", socket] => {
            std::thread::spawn(|| obey(|_| unreachable!("it is loaded from outside")));
            runtime().block_on(http_floor::run(Path::new(socket)));
        }
        ["amqp-floor", uri] => amqp_floor(uri),
        // Serves as the executable does, but also ends when its input ends.
        ["serve", ..] => {
            std::thread::spawn(|| obey(|_| unreachable!("it is loaded from outside")));
            assert_eq!(amqpost::commands::run(), ExitCode::SUCCESS);
        }
        _ => return false,
    }
    true
}

/// As amqpost makes its own.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

fn amqp_floor(uri: &str) {
    let runtime = runtime();
    let (mut publisher, _connection) = runtime.block_on(async {
        let connection = amqp_floor::connect(uri).await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        (Publisher::new(&channel, QUEUE, BYTES), connection)
    });
    println!("ready");
    let handle = runtime.handle().clone();
    obey(move |publishes| {
        let mut place = publisher.clone();
        // On a worker, where amqpost's tasks are, and not on this thread.
        let publishing = handle.spawn(async move {
            for _ in 0..publishes {
                place.exchange().await.expect("it is confirmed");
            }
            place
        });
        publisher = handle.block_on(publishing).expect("no panic");
    });
}

/// Serves orders until the input ends, and the process with it: `publish NUMBER`, `count FILE` to
/// begin, `end` to write the file and say how many bytes there were. Each is answered by a line.
fn obey(mut publish: impl FnMut(u32)) {
    let mut profiler = None;
    for order in std::io::stdin().lines().map_while(Result::ok) {
        match order.split_once(' ').unwrap_or((&order, "")) {
            ("publish", publishes) => {
                publish(publishes.parse().expect("a number"));
                println!("published");
            }
            ("count", file) => {
                profiler =
                    Some(dhat::Profiler::builder().file_name(file).trim_backtraces(Some(FRAMES)).build());
                println!("counting");
            }
            ("end", _) => {
                let bytes = dhat::HeapStats::get().total_bytes;
                drop(profiler.take());
                println!("{bytes}");
            }
            (order, _) => panic!("the order {order}"),
        }
    }
    std::process::exit(0);
}
