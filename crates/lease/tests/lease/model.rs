//! Random calls, compared with a lessor that looks at every lease every time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lease::{Error, RenewError};
use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use crate::{backend, restore};

#[derive(Clone, Debug)]
enum Call {
    Grant(i64, i64),
    Revoke(i64),
    Attach(i64, u8),
    Detach(i64, u8),
    Renew(i64),
    Promote(u64),
    Demote,
    Wait(u64),
    Checkpoint,
    Restart,
}

/// Few ids, of both signs and at the ends, so that calls meet.
fn id() -> impl Strategy<Value = i64> {
    prop_oneof![Just(-1), Just(0), Just(1), Just(7), Just(i64::MIN), Just(i64::MAX)]
}

fn call() -> impl Strategy<Value = Call> {
    let ttl = prop_oneof![4 => -1..20_i64, 1 => Just(1000), 1 => 8_999_999_999..9_000_000_002_i64];
    prop_oneof![
        4 => (id(), ttl).prop_map(|(id, ttl)| Call::Grant(id, ttl)),
        2 => id().prop_map(Call::Revoke),
        2 => (id(), any::<u8>()).prop_map(|(id, key)| Call::Attach(id, key)),
        1 => (id(), any::<u8>()).prop_map(|(id, key)| Call::Detach(id, key)),
        2 => id().prop_map(Call::Renew),
        2 => (0..3000_u64).prop_map(Call::Promote),
        1 => Just(Call::Demote),
        6 => (0..8000_u64).prop_map(Call::Wait),
        1 => Just(Call::Checkpoint),
        1 => Just(Call::Restart),
    ]
}

#[derive(Clone, Debug, Default)]
struct Lease {
    ttl: i64,
    remaining: i64,
    keys: BTreeSet<u8>,
    expiry: Option<Duration>,
    named_at: Option<Duration>,
}

impl Lease {
    fn begin(&mut self, extend: Duration, now: Duration) {
        let ttl = if self.remaining > 0 { self.remaining } else { self.ttl };
        self.expiry = Some(now + extend + Duration::from_secs(ttl as u64));
        self.named_at = None;
    }
}

proptest! {
    #[test]
    fn agrees_with_the_model(calls in prop::collection::vec(call(), 1..60)) {
        let mut backend = backend();
        let mut lessor = restore(&backend, true);
        let mut model: BTreeMap<i64, Lease> = BTreeMap::new();
        let mut now = Duration::from_secs(1);
        let mut is_primary = false;
        for call in calls {
            match call.clone() {
                Call::Grant(id, ttl) => {
                    let expected = match ttl {
                        _ if id == 0 => Err(Error::NotFound),
                        9_000_000_001.. => Err(Error::TtlTooLarge),
                        _ if model.contains_key(&id) => Err(Error::Exists),
                        ttl => Ok(ttl.max(2)),
                    };
                    prop_assert_eq!(lessor.grant(&mut backend, id, ttl, now), expected);
                    if let Ok(ttl) = expected {
                        let mut lease = Lease { ttl, ..Lease::default() };
                        if is_primary {
                            lease.begin(Duration::ZERO, now);
                        }
                        model.insert(id, lease);
                    }
                }
                Call::Revoke(id) => {
                    let expected = model.remove(&id).map(|lease| lease.keys);
                    let revoked = lessor.revoke(&mut backend, id).ok();
                    let revoked = revoked.map(|keys| keys.iter().map(|key| key[0]).collect());
                    prop_assert_eq!(revoked, expected);
                }
                Call::Attach(id, key) => {
                    let lease = model.get_mut(&id);
                    prop_assert_eq!(lessor.attach(id, &[key]), lease.is_some());
                    lease.map(|lease| lease.keys.insert(key));
                }
                Call::Detach(id, key) => {
                    lessor.detach(id, &[key]);
                    model.get_mut(&id).map(|lease| lease.keys.remove(&key));
                }
                Call::Renew(id) => {
                    let renewed = lessor.renew(id, now);
                    let expected = match model.get_mut(&id) {
                        _ if !is_primary => Err(RenewError::NotPrimary),
                        None => Err(RenewError::NotFound),
                        Some(lease) if lease.expiry <= Some(now) => Err(RenewError::Expired),
                        Some(lease) if lease.remaining > 0 => Err(RenewError::Checkpointed),
                        Some(lease) => {
                            lease.begin(Duration::ZERO, now);
                            Ok(lease.ttl)
                        }
                    };
                    prop_assert_eq!(renewed, expected);
                }
                Call::Promote(extend) => {
                    let extend = Duration::from_millis(extend);
                    lessor.promote(extend, now);
                    is_primary = true;
                    model.values_mut().for_each(|lease| lease.begin(extend, now));
                }
                Call::Demote | Call::Restart => {
                    lessor.demote();
                    if matches!(call, Call::Restart) {
                        lessor = restore(&backend, true);
                        for (&id, lease) in &model {
                            for &key in &lease.keys {
                                prop_assert!(lessor.attach(id, &[key]));
                            }
                        }
                    }
                    is_primary = false;
                    model.values_mut().for_each(|lease| lease.expiry = None);
                }
                Call::Wait(millis) => {
                    // More than the interval between two looks, so that each call looks.
                    now += Duration::from_millis(500 + millis);
                    let mut named = lessor.tick(now);
                    named.sort_unstable();
                    let retry = Duration::from_secs(3);
                    let mut expected = Vec::new();
                    for (&id, lease) in &mut model {
                        let is_expired = lease.expiry.is_some_and(|expiry| expiry <= now);
                        if is_expired && lease.named_at.is_none_or(|at| at + retry <= now) {
                            lease.named_at = Some(now);
                            expected.push(id);
                        }
                    }
                    prop_assert_eq!(named, expected);
                }
                Call::Checkpoint => {
                    for (id, remaining) in lessor.checkpoint(now) {
                        let lease = model.get_mut(&id).expect("a lease that is there");
                        let left = lease.expiry.expect("only on the primary") - now;
                        prop_assert_eq!(remaining, left.as_secs_f64().ceil() as i64);
                        prop_assert!(remaining > 0 && remaining < lease.ttl);
                        lessor.apply_checkpoint(&mut backend, id, remaining, true, now);
                        lease.remaining = remaining;
                    }
                }
            }
            for (&id, lease) in &model {
                let ttl = lessor.time_to_live(id, now).expect("there");
                prop_assert_eq!(ttl.granted, lease.ttl);
                let remaining = lease.expiry.map(|expiry| match expiry.checked_sub(now) {
                    Some(left) => left.as_secs() as i64,
                    None => -((now - expiry).as_secs() as i64),
                });
                prop_assert_eq!(ttl.remaining, remaining);
                let keys: Vec<u8> = lessor.keys(id).map(|key| key[0]).collect();
                prop_assert_eq!(keys, lease.keys.iter().copied().collect::<Vec<_>>());
            }
            prop_assert_eq!(lessor.len(), model.len());
            let mut order = lessor.leases();
            prop_assert!(order.is_sorted_by_key(|id| (model[id].expiry, *id)));
            order.sort_unstable();
            prop_assert!(order.iter().eq(model.keys()));
        }
    }
}
