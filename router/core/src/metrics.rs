//! Counters of one realm, plain numbers; showing them is the binary's work.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// What happened in a realm since it began.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Name, help text and value of every counter, for exposition.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),+), self.$name)),+]
            }

            /// Adds the counts of another realm.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)+
            }
        }
    };
}

counters! {
    /// Requests and acknowledgements taken from sessions.
    commands,
    /// Connections let in.
    sessions_joined,
    /// Publishes taken from sessions.
    publishes,
    /// Payload bytes of these publishes.
    payload_bytes_in,
    /// Events accepted.
    events_in,
    /// Deliveries of events appended to outboxes.
    events_out,
    /// Payload bytes of these deliveries.
    payload_bytes_out,
    /// Everything else appended to outboxes.
    answers_out,
    /// Sessions without connection whose time was over.
    sessions_expired,
    /// Steps of replays of kept values.
    replay_steps,
    /// Keys looked at by them.
    replay_looks,
    /// Values found by them.
    replayed,
    /// Calls accepted.
    calls,
    /// Publishes refused by a rule, silently where no answer was asked for.
    publish_refused,
    /// Publishes dropped because an option was invalid and no answer was asked for.
    publish_invalid,
    /// Deliveries withheld because the receiver's role may not read the topic.
    delivery_refused,
    /// Deliveries withheld because the receiver cannot open the sender's sealed payload.
    delivery_sealed,
    /// At-most-once deliveries dropped because a receiver's lane was full.
    dropped_best,
    /// Settleable deliveries dropped because a receiver's queue was full.
    dropped_sure,
    /// Settleable deliveries that a full queue did not take and that could not be refused any more.
    not_queued,
    /// Publishes refused because the queue of a receiver was full.
    refused_queue_full,
    /// Sessions ended because their queue was full.
    ended_queue_full,
    /// Queued deliveries read back from the store.
    queue_reads,
    /// Attempts to read them back that failed and were repeated.
    queue_reads_failed,
    /// Queued deliveries passed over because their record is damaged or missing.
    queue_damaged,
    /// Sessions ended because they did not read fast enough.
    ended_too_slow,
    /// Sessions ended for breaking the rules.
    ended_violation,
    /// Conditional writes refused.
    conditions_failed,
    /// Conditional writes that had to wait.
    writes_parked,
    /// Waiting writes that were granted.
    writes_granted,
    /// Waiting writes that ran out of time.
    writes_timed_out,
    /// Requests for holds.
    lock_acquires,
    /// Holds granted.
    lock_grants,
    /// Requests for holds that had to wait.
    lock_waits,
    /// Waiting requests for holds that ran out of time.
    lock_timeouts,
    /// Holds that ended because they were not renewed.
    lock_expiries,
    /// Holds broken by order.
    lock_breaks,
    /// Holds taken back because the store did not keep them.
    lock_rollbacks,
    /// Last wills and testaments dropped because their key was held.
    wills_on_held,
    /// Wills applied at session end or after a restart.
    wills_applied,
    /// Last wills published.
    last_wills_published,
    /// Durable writes refused or rolled back because the store failed.
    storage_refused,
    /// Commands refused because a quota was used up.
    quota_refused,
    /// Events forgotten because the history was full or they were too old.
    history_forgotten,
    /// Events not remembered because the store was down and the memory full of what waits for it.
    history_not_kept,
    /// Events forgotten because the store refused them and their publisher was told so.
    history_taken_back,
    /// Remembered events read back from the store.
    history_reads,
    /// Attempts to read them back that failed.
    history_reads_failed,
    /// Remembered events passed over because their record is damaged or missing.
    history_damaged,
    /// Answers of callees that nobody waited for any more.
    answers_discarded,
    /// Parts of calls that came after their call had ended, and were discarded.
    parts_discarded,
    /// Calls given to another callee because the first one was not available.
    calls_rerouted,
}
