//! A data thread: its runtime, its listening sockets, its mailbox, its live connections.

mod balance;
mod clock;
mod drain;
mod listening;
mod mailbox;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::task::coop::consume_budget;
use tokio_util::task::TaskTracker;

use crate::conn::{self, Context};
use crate::net::Accepted;
use crate::outcome::AcceptFailure;
use crate::snapshot::Taken;
use crate::telemetry::WorkerStats;
pub use balance::Loads;
use balance::{Accepting, Load};
use clock::Clock;
use listening::{Address, Addresses};
pub use mailbox::{Arrival, Look, Mailbox, Message};

/// How often a worker reviews its connections and shows that it is alive.
const TICK: Duration = Duration::from_secs(1);

/// The pause of an accept loop that ran out of descriptors or memory. The kernel keeps the queue,
/// and spinning would take the thread from connections whose end could free some.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Shortest time between two warnings about that.
const WARNING: Duration = Duration::from_secs(10);

/// More connections than the queue of any listening socket holds.
const LONGEST_QUEUE: u32 = 1 << 17;

/// Everything that a worker needs to start.
pub struct Equipment {
    /// Its position among the workers.
    pub position: usize,
    /// The connections of every worker.
    pub loads: Arc<Loads>,
    /// The mailboxes of every worker.
    pub mailboxes: Arc<[Mailbox]>,
    /// The receiver of its own mailbox.
    pub mail: mpsc::UnboundedReceiver<Message>,
    /// Builds the context on the worker's thread.
    pub context: Box<dyn FnOnce() -> Context + Send>,
    /// Shows that the worker is alive.
    pub pulse: Arc<WorkerStats>,
}

/// A worker on its own thread.
struct Worker {
    position: usize,
    loads: Arc<Loads>,
    mailboxes: Arc<[Mailbox]>,
    context: Rc<Context>,
    connections: TaskTracker,
    addresses: RefCell<Addresses>,
    /// The task that ends connections, once a drain has begun.
    spread: RefCell<Option<AbortHandle>>,
}

/// Runs a worker on this thread until it has received `Close` and its last connection has ended.
pub fn run(equipment: Equipment) -> io::Result<()> {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default())?;
    let worker = Rc::new(Worker {
        position: equipment.position,
        loads: equipment.loads,
        mailboxes: equipment.mailboxes,
        context: Rc::new((equipment.context)()),
        connections: TaskTracker::new(),
        addresses: RefCell::default(),
        spread: RefCell::default(),
    });
    runtime.block_on(worker.work(equipment.mail, &equipment.pulse));
    equipment.pulse.end();
    Ok(())
}

impl Worker {
    /// Starts the tick, and reads the mail.
    async fn work(
        self: &Rc<Self>,
        mail: mpsc::UnboundedReceiver<Message>,
        pulse: &Arc<WorkerStats>,
    ) {
        let tick = tick(Rc::clone(&self.context), Arc::clone(pulse));
        tokio::task::spawn_local(self.context.registry.vital_task("tick", tick));
        self.read(mail).await;
    }

    /// Reads the mail until the worker has received `Close` and its last connection has ended.
    async fn read(self: &Rc<Self>, mut mail: mpsc::UnboundedReceiver<Message>) {
        loop {
            tokio::select! {
                biased;
                Some(message) = mail.recv() => self.follow(message),
                () = self.connections.wait() => {
                    // A connection that was handed over just now must still be counted and logged.
                    // Once the mailbox is closed nothing else can come, from workers or control:
                    // so that connection is cut.
                    mail.close();
                    self.context.cut();
                    while let Ok(message) = mail.try_recv() {
                        self.follow(message);
                    }
                    self.connections.wait().await;
                    return;
                }
            }
        }
    }

    /// Carries out a message.
    fn follow(self: &Rc<Self>, message: Message) {
        match message {
            Message::Listen {
                address,
                socket,
                listens,
            } => {
                let in_force = self.context.in_force.borrow();
                let in_force = in_force.as_ref();
                let address = (self.addresses.borrow_mut()).open(address, socket, in_force);
                let listening = address.map(|address| {
                    let Some(address) = address else { return };
                    let accepting = Accepting::new(&self.loads);
                    let accept = Rc::clone(self).accept(address, accepting);
                    let accept = self.context.registry.vital_task("accept loop", accept);
                    self.connections.spawn_local(accept);
                });
                // Control waits for this result, unless it has ended.
                drop(listens.send(listening));
            }
            Message::Unlisten { address } => self.addresses.borrow_mut().close(address),
            Message::Swap(snapshot) => {
                self.addresses.borrow().swap(&snapshot);
                self.context.in_force.replace(Some(snapshot));
            }
            Message::Serve(arrival) => self.serve(arrival),
            Message::Close => {
                self.context.resources.set_draining(true);
                self.addresses.borrow_mut().close_all();
                self.connections.close();
            }
            Message::Spread { over } => {
                self.context.resources.set_draining(true);
                let spread = drain::spread(Rc::clone(&self.context), over);
                let spread = self.context.registry.vital_task("drain", spread);
                let spread = tokio::task::spawn_local(spread).abort_handle();
                if let Some(before) = self.spread.replace(Some(spread)) {
                    before.abort();
                }
            }
            Message::Cut => self.context.cut(),
            Message::Resume => {
                if let Some(spread) = self.spread.take() {
                    spread.abort();
                }
                self.context.resume();
            }
            Message::Look(look) => self.show(look),
        }
    }

    /// Answers a look. One at many connections takes turns with them.
    fn show(&self, look: Look) {
        // The asker may be gone.
        match look {
            Look::Refusals(answer) => drop(answer.send(self.context.refusals.borrow().clone())),
            Look::Connections { query, answer } => {
                let context = Rc::clone(&self.context);
                tokio::task::spawn_local(async move {
                    let seen = context.look(&query, &answer).await;
                    drop(answer.send(seen));
                });
            }
        }
    }

    /// Accepts connections at an address until it closes for good.
    async fn accept(self: Rc<Self>, address: Rc<Address>, _accepting: Accepting) {
        while !address.closing().is_cancelled() {
            self.accept_until_closing(&address).await;
            self.empty(&address).await;
        }
    }

    async fn accept_until_closing(&self, address: &Address) {
        let closing = address.closing();
        let mut last_warning = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = closing.cancelled() => return,
                accepted = address.listening.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => self.place(accepted, address.taken()),
                Err(error) => {
                    // Without a remedy the error concerns one connection in the queue, not the next.
                    if let Some(remedy) = self.count_failure(error) {
                        if last_warning.is_none_or(|at: Instant| at.elapsed() >= WARNING) {
                            last_warning = Some(Instant::now());
                            tracing::warn!(remedy, "cannot accept: new connections wait");
                        }
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                }
            }
            // A burst must not hold up existing connections.
            consume_budget().await;
        }
    }

    /// Accepts what is left in the queue of an address: closing a listening socket would reset it.
    async fn empty(&self, address: &Address) {
        // No more than the longest queue, because clients may connect faster than it empties.
        for _ in 0..LONGEST_QUEUE {
            match address.listening.accept_now() {
                Ok(accepted) => self.place(accepted, address.taken()),
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    if self.count_failure(error).is_some() {
                        if self.context.cut.get() {
                            return;
                        }
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                }
            }
            consume_budget().await;
        }
    }

    /// Counts an accept that failed. If there is a remedy, the next accept would fail too.
    fn count_failure(&self, error: Errno) -> Option<&'static str> {
        let reason = AcceptFailure::from_errno(error.raw_os_error());
        self.context.registry.accepts().failed(reason);
        reason.remedy()
    }

    /// Keeps a new connection, or hands it to the worker that has the fewest.
    fn place(&self, accepted: Accepted, taken: Taken) {
        let target = self.loads.place(self.position);
        let load = Load::new(&self.loads, target);
        let arrival = Arrival {
            accepted,
            taken,
            load,
        };
        let kept = if target == self.position {
            Some(arrival)
        } else {
            #[expect(clippy::indexing_slicing, reason = "each worker has a mailbox")]
            let mailbox = &self.mailboxes[target];
            // If that worker has ended, the connection comes back.
            mailbox.hand_over(arrival)
        };
        if let Some(arrival) = kept {
            self.serve(arrival);
        }
    }

    fn serve(&self, arrival: Arrival) {
        let context = Rc::clone(&self.context);
        let Arrival {
            accepted,
            taken,
            load,
        } = arrival;
        // A reload may have raised the limit.
        let max_hello = taken.snapshot.hello.max_size;
        context.resources.grow(max_hello);
        self.connections
            .spawn_local(conn::serve(context, accepted, taken, load));
    }
}

/// Advances the coarse clock and reviews the connections, once a second.
async fn tick(context: Rc<Context>, pulse: Arc<WorkerStats>) -> Infallible {
    let (began, mut clock) = (Instant::now(), Clock::default());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        pulse.turn(Instant::now());
        let now = clock.advance(u32::try_from(began.elapsed().as_secs()).unwrap_or(u32::MAX));
        context.resources.tick(now);
        let pipes = &context.resources.pipes;
        pulse.pipes.idle.store(pipes.idle(), Ordering::Relaxed);
        pulse.pipes.lent.store(pipes.lent(), Ordering::Relaxed);
        let fallbacks = pipes.fallbacks();
        pulse.pipes.fallbacks.store(fallbacks, Ordering::Relaxed);
        context.review(now);
        // A worker without a connection that is to end or to be logged does not wake up for this.
        let mut steps = TICK.as_millis() / drain::STEP.as_millis();
        while context.step() && steps > 1 {
            steps -= 1;
            tokio::time::sleep(drain::STEP).await;
        }
    }
}
