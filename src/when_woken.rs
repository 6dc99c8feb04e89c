//! Polls a future only if that future itself was woken, in a task that is woken often.

use futures_util::stream::{FuturesUnordered, StreamExt};

/// Wraps a future that is rarely ready, so that other wakes of its task do not poll it.
///
/// A `select!` polls every branch with every wake of the task, timers and watch channels too
/// (ADR-0006).
pub(crate) async fn when_woken<F: Future>(rare: F) -> F::Output {
    let mut one = FuturesUnordered::from_iter([rare]);
    one.next().await.expect("it holds one future until that one ends")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::{Pin, pin};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};
    use tokio::sync::oneshot;

    #[test]
    fn it_is_polled_once_and_then_only_when_it_was_woken() {
        let polls = AtomicUsize::new(0);
        let (send, mut receive) = oneshot::channel();
        let counted = poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut receive).poll(cx)
        });
        let mut rare = pin!(when_woken(counted));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(rare.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1, "others woke the task");
        send.send(7).unwrap();
        assert_eq!(rare.as_mut().poll(&mut cx), Poll::Ready(Ok(7)));
    }

    #[tokio::test]
    async fn its_wake_wakes_the_task_that_waits_for_it() {
        let (send, receive) = oneshot::channel();
        let waiting = tokio::spawn(when_woken(receive));
        tokio::task::yield_now().await;
        send.send(7).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(7));
    }
}
