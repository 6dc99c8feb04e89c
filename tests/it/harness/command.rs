//! The built `amqpost` as a command that ends by itself.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A command that takes longer than this is considered hung.
const END_MAX: Duration = Duration::from_secs(40);

/// The output of `amqpost` with these arguments, and its exit status.
///
/// # Panics
/// When it does not end.
pub async fn amqpost(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amqpost"));
    command.args(arguments).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    tokio::time::timeout(END_MAX, output).await.expect("it ends").expect("no panic").expect("it starts")
}
