//! A task that wakes itself while it runs is run again at once.
//!
//! The connection and what handles its requests are one task. Whenever a handler asks for a body it
//! wakes the connection, which is itself. The scheduler sees a task that is due again while it runs:
//! it puts it at the end of the queue and wakes another worker to share the work. That worker takes
//! the connection away to another core, or finds nothing: two context switches for every request,
//! and a cold cache for the next.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How often in a row. After that the scheduler decides, so that nobody keeps others waiting.
const AGAIN: usize = 4;

/// Nobody runs the task: a wake-up is passed on.
const IDLE: u8 = 0;
/// It runs.
const RUNNING: u8 = 1;
/// It runs, and is due again.
const DUE: u8 = 2;

struct Bell {
    state: AtomicU8,
    task: Mutex<Waker>,
}

impl Bell {
    fn ring(&self) {
        // Release: whoever runs it again sees what it was woken for.
        if self.state.swap(DUE, Ordering::AcqRel) == IDLE {
            // Until it runs, one wake-up is enough.
            self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// Runs `future`; what wakes it while it runs does not go through the scheduler.
pub async fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let bell = Arc::new(Bell { state: AtomicU8::new(IDLE), task: Mutex::new(Waker::noop().clone()) });
    let waker = Waker::from(Arc::clone(&bell));
    poll_fn(move |cx| poll(future.as_mut(), &bell, &waker, cx)).await
}

fn poll<F: Future>(mut future: Pin<&mut F>, bell: &Bell, waker: &Waker, cx: &Context<'_>) -> Poll<F::Output> {
    bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
    for _ in 0..AGAIN {
        bell.state.swap(RUNNING, Ordering::AcqRel);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
            return Poll::Ready(output);
        }
        if bell.state.compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Poll::Pending;
        }
    }
    // It stays due: whoever wakes it meanwhile need not.
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Pending as often as it is told to, waking itself each time; its waker is kept.
    fn selfish(pending: usize, kept: Arc<Mutex<Option<Waker>>>) -> impl Future<Output = usize> {
        let mut polls = 0;
        poll_fn(move |cx| {
            *kept.lock().unwrap() = Some(cx.waker().clone());
            polls += 1;
            if polls > pending {
                return Poll::Ready(polls);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn what_wakes_itself_is_run_again_and_nobody_is_woken() {
        let (count, kept) = (Arc::new(Count::default()), Arc::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut future = std::pin::pin!(at_once(selfish(AGAIN - 1, kept)));
        assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(AGAIN));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_never_stops_waking_itself_gives_way() {
        let (count, kept) = (Arc::new(Count::default()), Arc::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut future = std::pin::pin!(at_once(selfish(2 * AGAIN, kept)));
        for turn in 1..=2 {
            assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
            assert_eq!(count.0.load(Ordering::Relaxed), turn, "the scheduler runs it again");
        }
        assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(2 * AGAIN + 1));
    }

    #[test]
    fn what_wakes_it_while_it_waits_is_passed_on_once_and_to_the_last_task() {
        let kept: Arc<Mutex<Option<Waker>>> = Arc::default();
        let seen = Arc::clone(&kept);
        let mut future = std::pin::pin!(at_once(poll_fn(move |cx| {
            *seen.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        for count in &counts {
            let waker = Waker::from(Arc::clone(count));
            assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        }
        let waker = kept.lock().unwrap().clone().unwrap();
        waker.wake_by_ref();
        waker.wake_by_ref();
        let woken = counts.map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [0, 1]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_from_another_thread_is_lost() {
        for _ in 0..200 {
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            let received = tokio::spawn(at_once(async move {
                let mut sum = 0_u64;
                while let Some(n) = receiver.recv().await {
                    sum += n;
                }
                sum
            }));
            let sent = tokio::spawn(async move {
                for n in 0..100_u64 {
                    sender.send(n).await.unwrap();
                }
            });
            sent.await.unwrap();
            assert_eq!(received.await.unwrap(), 4950);
        }
    }
}
