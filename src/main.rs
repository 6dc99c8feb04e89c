//! The `amqpost` executable: arguments in, exit code out.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use tikv_jemallocator::Jemalloc;

/// A publish allocates and frees dozens of small blocks on several threads (ADR-0006).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    amqpost::commands::run()
}
