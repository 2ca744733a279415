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
    /// Events accepted.
    events_in,
    /// Deliveries of events appended to outboxes.
    events_out,
    /// Calls accepted.
    calls,
    /// Publishes refused by a rule, silently where no answer was asked for.
    publish_refused,
    /// Publishes dropped because an option was invalid and no answer was asked for.
    publish_invalid,
    /// Deliveries withheld because the receiver's role may not read the topic.
    delivery_refused,
    /// At-most-once deliveries dropped because a receiver's lane was full.
    dropped_best,
    /// Settleable deliveries dropped because a receiver's queue was full.
    dropped_sure,
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
    /// Wills applied at session end or after a restart.
    wills_applied,
    /// Last wills published.
    last_wills_published,
    /// Durable writes refused or rolled back because the store failed.
    storage_refused,
    /// Commands refused because a quota was used up.
    quota_refused,
    /// Traced events forgotten because the history was full.
    history_forgotten,
    /// Answers of callees that nobody waited for any more.
    answers_discarded,
}
