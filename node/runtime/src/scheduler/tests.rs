#![allow(clippy::unwrap_used)] // A test may stop where it fails.

use std::{
    collections::HashSet,
    future::{pending, poll_fn},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Instant,
};

use tokio::{
    sync::{mpsc as channel, oneshot},
    time::timeout,
};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn start(workers: usize) -> (Scheduler, Executor) {
    let scheduler = Scheduler::start(workers).unwrap();
    let executor = Executor::Scheduler(scheduler.handle());
    (scheduler, executor)
}

async fn in_a_minute<T>(what: impl Future<Output = T>) -> T {
    timeout(MINUTE, what).await.unwrap()
}

/// Runs for so long without a pause.
fn block(time: Duration) {
    thread::sleep(time);
}

#[tokio::test]
async fn what_is_woken_from_elsewhere_runs_however_often_all_sleep() {
    for workers in [1, 2, 4] {
        let (_scheduler, executor) = start(workers);
        let (to, mut from_here) = channel::channel::<u32>(1);
        let (back, mut answers) = channel::channel(1);
        executor.spawn(async move {
            while let Some(number) = from_here.recv().await {
                back.send(number + 1).await.unwrap();
            }
        });
        for number in 0..5_000 {
            to.send(number).await.unwrap();
            assert_eq!(in_a_minute(answers.recv()).await, Some(number + 1), "with {workers} workers");
        }
    }
}

#[tokio::test]
async fn what_the_network_wakes_runs_and_what_runs_wakes_the_network() {
    let (scheduler, executor) = start(2);
    let server = scheduler.io().spawn(tokio::net::UdpSocket::bind("127.0.0.1:0")).await.unwrap().unwrap();
    let client = scheduler.io().spawn(tokio::net::UdpSocket::bind("127.0.0.1:0")).await.unwrap().unwrap();
    let to = server.local_addr().unwrap();
    executor.spawn(async move {
        let mut bytes = [0; 8];
        while let Ok((length, from)) = server.recv_from(&mut bytes).await {
            server.send_to(&bytes[..length], from).await.unwrap();
        }
    });
    let (done, is_done) = oneshot::channel();
    executor.spawn(async move {
        let mut bytes = [0; 8];
        for number in 0..2_000_u64 {
            client.send_to(&number.to_le_bytes(), to).await.unwrap();
            client.recv_from(&mut bytes).await.unwrap();
            assert_eq!(u64::from_le_bytes(bytes), number);
        }
        done.send(()).unwrap();
    });
    in_a_minute(is_done).await.unwrap();
}

#[tokio::test]
async fn a_process_that_keeps_its_thread_holds_up_neither_the_network_nor_what_waits_behind_it() {
    for workers in [1, 2] {
        let (scheduler, executor) = start(workers);
        // The longest pause that the I/O has seen.
        let longest = Arc::new(AtomicU64::new(0));
        let seen = longest.clone();
        scheduler.io().spawn(async move {
            loop {
                let began = Instant::now();
                tokio::time::sleep(Duration::from_millis(2)).await;
                seen.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
            }
        });
        let (behind, came) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let next = executor.clone();
        executor.spawn(async move {
            // Into this worker's own queue.
            let began = Instant::now();
            next.spawn(async move {
                let _ = behind.send(began.elapsed());
            });
            block(Duration::from_millis(600));
            ends.send(()).unwrap();
        });
        if workers == 2 {
            let waited = in_a_minute(came).await.unwrap();
            assert!(waited < Duration::from_millis(300), "waited {waited:?} although a worker was free");
        }
        in_a_minute(ended).await.unwrap();
        let longest = longest.load(Ordering::Relaxed);
        assert!(longest < 300, "with {workers} workers the network waited for {longest} ms");
    }
}

#[tokio::test]
async fn processes_that_never_rest_hold_up_neither_the_network_nor_each_other() {
    let (scheduler, executor) = start(1);
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..8 {
        let stop = stop.clone();
        executor.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
        });
    }
    let ticks = scheduler.io().spawn(async {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    in_a_minute(ticks).await.unwrap();
    let (done, is_done) = oneshot::channel();
    executor.spawn(async { done.send(()).unwrap() });
    in_a_minute(is_done).await.unwrap();
    stop.store(true, Ordering::Relaxed);
}

#[tokio::test]
async fn work_spreads_over_the_workers_when_there_is_much_of_it() {
    let (_scheduler, executor) = start(3);
    let threads = Arc::new(Mutex::new(HashSet::new()));
    let (done, mut are_done) = channel::channel(1);
    let first = executor.clone();
    let seen = threads.clone();
    executor.spawn(async move {
        for _ in 0..300 {
            let (seen, done) = (seen.clone(), done.clone());
            first.spawn(async move {
                for _ in 0..10 {
                    seen.lock().unwrap().insert(thread::current().id());
                    block(Duration::from_micros(100));
                    tokio::task::yield_now().await;
                }
                let _ = done.send(()).await;
            });
        }
    });
    for _ in 0..300 {
        in_a_minute(are_done.recv()).await.unwrap();
    }
    assert_eq!(threads.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_process_is_within_the_tokio_runtime_of_the_start_and_has_its_budget() {
    let (_scheduler, executor) = start(1);
    let here = Handle::current().id();
    let (tell, told) = oneshot::channel();
    executor.spawn(async move {
        let at = Handle::current().id();
        let spawned = tokio::spawn(async { Handle::current().id() }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        // A channel that always has something yields all the same: nobody else runs here otherwise.
        let (sender, mut receiver) = channel::unbounded_channel();
        (0..1_000).for_each(|number| sender.send(number).unwrap());
        let mut polls = 0;
        let mut receive = std::pin::pin!(async { while !receiver.is_empty() && receiver.recv().await.is_some() {} });
        poll_fn(|cx| {
            polls += 1;
            receive.as_mut().poll(cx)
        })
        .await;
        let _ = tell.send((at, spawned, polls));
    });
    let (at, spawned, polls) = in_a_minute(told).await.unwrap();
    assert_eq!((at, spawned), (here, here));
    assert!(polls > 5, "1,000 messages were received in {polls} polls");
}

/// Tells when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().map(|tell| tell.send(()));
    }
}

fn dropped() -> (Dropped, oneshot::Receiver<()>) {
    let (tell, told) = oneshot::channel();
    (Dropped(Some(tell)), told)
}

#[tokio::test]
async fn the_end_ends_the_io_and_what_is_woken_later() {
    let (scheduler, executor) = start(2);
    let (held, io_is_gone) = dropped();
    scheduler.io().spawn(async move {
        let _held = held;
        pending::<()>().await;
    });
    let (held, process_is_gone) = dropped();
    let (give, given) = oneshot::channel::<Waker>();
    executor.spawn(async move {
        let _held = held;
        let mut give = Some(give);
        poll_fn(|cx| {
            let _ = give.take().map(|give| give.send(cx.waker().clone()));
            Poll::<()>::Pending
        })
        .await;
    });
    let waker = in_a_minute(given).await.unwrap();
    drop(scheduler);
    in_a_minute(io_is_gone).await.unwrap();
    waker.wake();
    in_a_minute(process_is_gone).await.unwrap();
    // And what is started too late.
    let (held, late_is_gone) = dropped();
    executor.spawn(async move {
        let _held = held;
        pending::<()>().await;
    });
    in_a_minute(late_is_gone).await.unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_process_that_keeps_its_thread_and_ends_the_io_all_the_same() {
    for workers in [1, 2] {
        let (scheduler, executor) = start(workers);
        let (held, io_is_gone) = dropped();
        scheduler.io().spawn(async move {
            let _held = held;
            pending::<()>().await;
        });
        let (runs, is_running) = oneshot::channel();
        executor.spawn(async move {
            runs.send(()).unwrap();
            block(Duration::from_secs(3));
        });
        in_a_minute(is_running).await.unwrap();
        // Long enough for somebody else to lead.
        block(Duration::from_millis(20));
        let began = Instant::now();
        drop(scheduler);
        in_a_minute(io_is_gone).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?} with {workers} workers", began.elapsed());
    }
}

#[tokio::test]
async fn what_waits_behind_a_process_that_keeps_its_thread_is_run_by_workers_that_are_never_idle() {
    let (_scheduler, executor) = start(2);
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..3 {
        let stop = stop.clone();
        executor.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                block(Duration::from_micros(50));
                tokio::task::yield_now().await;
            }
        });
    }
    let (behind, came) = oneshot::channel();
    let next = executor.clone();
    executor.spawn(async move {
        let began = Instant::now();
        next.spawn(async move {
            let _ = behind.send(began.elapsed());
        });
        block(Duration::from_secs(2));
    });
    let waited = in_a_minute(came).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(waited < Duration::from_secs(1), "waited {waited:?}");
}

#[tokio::test]
async fn a_panic_at_the_end_of_a_process_does_not_take_its_worker_along() {
    struct Panics;
    impl Drop for Panics {
        #[allow(clippy::panic)] // What is tested.
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let (_scheduler, executor) = start(1);
    executor.spawn(async { drop(Panics) });
    let (done, is_done) = oneshot::channel();
    executor.spawn(async { done.send(()).unwrap() });
    in_a_minute(is_done).await.unwrap();
}
