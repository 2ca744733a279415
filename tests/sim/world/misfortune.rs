//! What goes wrong in a run.

use super::World;
use crate::dice::Dice;
use crate::net::LinkId;

/// How often each fault strikes, in a million steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    cut: u64,
    stall: u64,
    silence: u64,
    crash: u64,
    failure: u64,
    outage: u64,
}

/// A rate that is nothing half of the time.
pub(super) fn often(dice: &mut Dice, most: u64) -> u64 {
    if dice.flip() { dice.range(0, most) } else { 0 }
}

impl Rates {
    pub(super) fn new(durable: bool, dice: &mut Dice) -> Rates {
        Rates {
            cut: often(dice, 6_000),
            stall: often(dice, 6_000),
            silence: often(dice, 2_000),
            crash: if durable { often(dice, 1_500) } else { 0 },
            failure: if durable { often(dice, 2_000) } else { 0 },
            outage: if durable { often(dice, 600) } else { 0 },
        }
    }
}

impl World {
    /// One thing goes wrong, or nothing.
    pub(super) fn misfortune(&mut self) -> Result<(), String> {
        let rates = self.rates;
        let mut draw = self.dice.range(0, 999_999);
        let mut strikes = |rate: u64| {
            let hit = draw < rate;
            draw = draw.wrapping_sub(rate);
            hit
        };
        if strikes(rates.cut) {
            self.hurt(
                |world, link| {
                    world.ledger.excuse(link, "cut");
                    world.ledger.fault("cut connections");
                    world.net.cut(link, world.now, &mut world.dice);
                },
                false,
            );
        } else if strikes(rates.stall) {
            self.hurt(
                |world, link| {
                    let until = world.now + world.dice.range(100, 8_000);
                    world.ledger.fault("slow readers");
                    world.net.stall(link, until);
                },
                true,
            );
        } else if strikes(rates.silence) {
            self.hurt(
                |world, link| {
                    world.ledger.excuse(link, "silent");
                    world.ledger.fault("half-open connections");
                    let patience = world.dice.range(500, 60_000);
                    world.net.silence(link, world.now, patience);
                },
                false,
            );
        } else if strikes(rates.crash) {
            self.crash();
        } else if self.restart_at.is_some() {
            // Nobody is there who could write.
        } else if strikes(rates.failure) {
            self.ledger.fault("failed commits");
            self.router.core.store.fail_next();
        } else if strikes(rates.outage) {
            self.ledger.fault("outages of the store");
            let until = self.now + self.dice.range(50, 4_000);
            self.router.core.store.outage(until);
        }
        Ok(())
    }

    /// Lets something happen to a connection that is still whole.
    fn hurt(&mut self, what: impl FnOnce(&mut World, LinkId), is_stall: bool) {
        let links: Vec<LinkId> = self
            .actors
            .iter()
            .filter(|actor| !is_stall || actor.may_stall())
            .filter_map(|actor| actor.link())
            .collect();
        let whole: Vec<LinkId> = links
            .into_iter()
            .filter(|link| !self.net.is_silent(*link))
            .collect();
        if !whole.is_empty() {
            let link = *self.dice.pick(&whole);
            what(self, link);
        }
    }

    /// The router's process is killed.
    pub(super) fn crash(&mut self) {
        if self.restart_at.is_some() {
            return;
        }
        self.ledger.fault("crashes of the router");
        if self.trace {
            println!(
                "{:>8} ms  step {:<6} the router crashes",
                self.now, self.ledger.step
            );
        }
        self.router
            .crash(&mut self.net, &mut self.ledger, &mut self.dice);
        self.restart_at = Some(self.now + self.dice.range(0, 1_500));
    }
}
