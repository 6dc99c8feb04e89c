//! Waits until a condition holds, with a deadline, in place of bare sleeps.

use std::fmt::Debug;
use std::time::{Duration, Instant};

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// The result of a check: either the answer or a description of the state.
pub trait Look {
    /// The result of the wait.
    type Answer;
    /// The answer, or a description of the state.
    ///
    /// # Errors
    /// The description, when the condition does not hold yet.
    fn settle(self) -> Result<Self::Answer, String>;
}

impl Look for bool {
    type Answer = ();
    fn settle(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

impl<T> Look for Option<T> {
    type Answer = T;
    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "None".into())
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Answer = T;
    fn settle(self) -> Result<T, String> {
        self.map_err(|seen| format!("{seen:?}"))
    }
}

/// Repeats the check until it returns `true`, `Some(answer)` or `Ok(answer)`.
///
/// If the deadline passes, the panic shows the last `Err(description)` of the check.
///
/// # Panics
/// When the deadline passes, with `what` and the last description.
pub async fn eventually<L: Look>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> L,
) -> L::Answer {
    let end = Instant::now() + deadline;
    let mut seen = String::from("no look has finished");
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, look()).await {
            Ok(look) => match look.settle() {
                Ok(answer) => return answer,
                Err(last) => seen = last,
            },
            Err(_elapsed) => panic!("not within {deadline:?}: {what}; last seen: {seen}"),
        }
        assert!(Instant::now() < end, "not within {deadline:?}: {what}; last seen: {seen}");
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
