use super::*;
use proptest::prelude::*;

fn wish() -> impl Strategy<Value = Wish> {
    let permit = (1_u64..4, 3_u64..5).prop_map(|(permits, limit)| Wish {
        mode: Mode::Permit,
        permits,
        limit,
    });
    let plain = |mode| Wish {
        mode,
        permits: 1,
        limit: 1,
    };
    prop_oneof![
        1 => Just(plain(Mode::Mutex)),
        1 => Just(plain(Mode::Exclusive)),
        4 => Just(plain(Mode::Shared)),
        4 => permit,
    ]
}

fn holder(wish: &Wish, commit: u64) -> Holder {
    Holder {
        publisher: Arc::new(Publisher {
            session: SessionId(1),
            client: None,
            authid: "a".into(),
            role: "r".into(),
            disclosed: false,
        }),
        requests: vec![RequestId(1)],
        mode: wish.mode,
        permits: wish.permits,
        count: 1,
        since_ms: 0,
        commit,
        lease: None,
        data: Value::Null,
    }
}

/// The rules, said of every pair of holders and of all of them together.
fn allowed(holders: &[Wish]) -> bool {
    let pairs = holders.iter().enumerate().all(|(i, a)| {
        holders[i + 1..].iter().all(|b| match (a.mode, b.mode) {
            (Mode::Shared, Mode::Shared) => true,
            (Mode::Permit, Mode::Permit) => a.limit == b.limit,
            _ => false,
        })
    });
    let permits = holders.iter().filter(|w| w.mode == Mode::Permit);
    let taken: u64 = permits.clone().map(|w| w.permits).sum();
    pairs && permits.clone().all(|w| taken <= w.limit)
}

#[derive(Clone, Debug)]
enum Step {
    Ask(Wish),
    Release(prop::sample::Index),
    Lose(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => wish().prop_map(Step::Ask),
        3 => any::<prop::sample::Index>().prop_map(Step::Release),
        1 => (0_u64..200).prop_map(Step::Lose),
    ]
}

proptest! {
    #[test]
    fn a_hold_lets_in_exactly_whom_the_rules_of_pairs_allow(
        steps in prop::collection::vec(step(), 0..200),
        most in 1_usize..5,
    ) {
        let topic = Topic::new("k".to_owned()).unwrap();
        let mut holds = Holds::default();
        let mut known: Vec<(u64, Wish)> = Vec::new();
        for (token, step) in (1_u64..).zip(steps) {
            match step {
                Step::Ask(wish) => {
                    let mut with: Vec<Wish> = known.iter().map(|(_, wish)| *wish).collect();
                    with.push(wish);
                    let other = known.iter().any(|(_, known)| {
                        known.mode == Mode::Permit
                            && wish.mode == Mode::Permit
                            && known.limit != wish.limit
                    });
                    let fits = allowed(&with) && known.len() < most;
                    let fit = match holds.get(&topic) {
                        Some(hold) => hold.fit(&wish, most),
                        None => Fit::Yes,
                    };
                    prop_assert_eq!(fit == Fit::Yes, fits);
                    prop_assert_eq!(fit == Fit::OtherLimit, other);
                    if fits {
                        holds.add(&topic, &wish, token, holder(&wish, token));
                        known.push((token, wish));
                    }
                }
                Step::Release(index) if !known.is_empty() => {
                    let (token, _) = known.remove(index.index(known.len()));
                    prop_assert!(holds.remove(&topic, token).is_some());
                    prop_assert!(holds.remove(&topic, token).is_none());
                }
                Step::Release(_) => prop_assert!(holds.get(&topic).is_none()),
                Step::Lose(durable) => {
                    let lost = holds.take_lost(durable).into_iter().map(|(_, token, _)| token);
                    let expected = known.iter().filter(|(token, _)| *token > durable);
                    let expected: Vec<u64> = expected.map(|(token, _)| *token).collect();
                    prop_assert_eq!(lost.collect::<Vec<_>>(), expected);
                    known.retain(|(token, _)| *token <= durable);
                }
            }
            let hold = holds.get(&topic);
            prop_assert_eq!(hold.map_or(0, Hold::len), known.len());
            prop_assert_eq!(holds.len(), known.len());
            let tokens: Vec<u64> = hold.into_iter().flat_map(Hold::holders).map(|h| h.0).collect();
            let expected: Vec<u64> = known.iter().map(|(token, _)| *token).collect();
            prop_assert_eq!(tokens, expected, "in the order of the grants");
            let taken: u64 = known.iter().map(|(_, wish)| wish.permits).sum();
            prop_assert_eq!(hold.map_or(0, Hold::taken), taken);
            let alone = known.len() == 1 && known[0].1.mode.is_alone();
            prop_assert_eq!(hold.and_then(Hold::sole).is_some(), alone);
        }
    }
}
