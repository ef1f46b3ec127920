//! Threads that go through the same phases together, and share the units of each.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How often a thread looks whether the others are done before it lets somebody else run.
const SPINS: usize = 400;

/// A number that several threads count up, in a line of the cache of its own.
#[repr(align(64))]
#[derive(Default)]
struct Counter(AtomicUsize);

/// How far a computation is.
struct Plan {
    threads: usize,
    /// Of each phase and each thread: how many of its units were begun, by whomever.
    begun: Vec<Counter>,
    /// Of each phase: how many units are done.
    done: Vec<Counter>,
}

/// One thread's way through the phases of a computation.
pub struct Worker<'plan> {
    plan: &'plan Plan,
    number: usize,
    phase: usize,
}

/// Counts a unit as done, even if it panics: the others would wait for it.
struct Doing<'phase>(&'phase Counter);

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Release);
    }
}

/// Run `work` on so many threads, this one included. Each goes through at most `phases` phases, in the same order.
pub fn run(phases: usize, threads: usize, work: impl Fn(&mut Worker) + Sync) {
    let counters = |count| (0..count).map(|_| Counter::default()).collect();
    let plan = Plan { threads, begun: counters(phases * threads), done: counters(phases) };
    let go = |number| work(&mut Worker { plan: &plan, number, phase: 0 });
    thread::scope(|scope| {
        for number in 1..threads {
            let go = &go;
            scope.spawn(move || go(number));
        }
        go(0);
    });
}

impl Worker<'_> {
    /// Take part in the next phase: do its units, neighbours by the same thread, and wait until all are done.
    ///
    /// A thread that has done its own helps the others. A phase ends with its units, not when all threads have come:
    /// one that the system holds up between two units holds nobody up, and finds nothing left to do later.
    pub fn share(&mut self, units: usize, mut work: impl FnMut(usize)) {
        let threads = self.plan.threads;
        let begun = &self.plan.begun[self.phase * threads..][..threads];
        let done = &self.plan.done[self.phase];
        self.phase += 1;
        for owner in (self.number..threads).chain(0..self.number) {
            let end = units * (owner + 1) / threads;
            loop {
                let unit = units * owner / threads + begun[owner].0.fetch_add(1, Ordering::Relaxed);
                if unit >= end {
                    break;
                }
                let _doing = Doing(done);
                work(unit);
            }
        }
        let mut looked = 0;
        while done.0.load(Ordering::Acquire) < units {
            looked += 1;
            if looked < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
    }
}
