//! Whether a client counts what it receives and sends: INV-S-21.

use super::{Observation, Verdict, hold};

/// Every byte that came is useful or counted as wasted, and nothing is counted that was not seen.
pub(super) fn observe(observation: &Observation<'_>) -> Verdict {
    let Observation::Accounts { counted, seen } = observation else { return Ok(()) };
    hold(counted == seen, "INV-S-21", || format!("it counts {counted:?}, and {seen:?} was seen"))
}

#[cfg(test)]
mod tests {
    use super::super::Account;
    use super::super::tests::expect_breach;
    use super::{Observation, observe};

    #[test]
    fn s21_a_byte_that_is_counted_twice_or_not_at_all() {
        let seen = Account { received: 100, sent: 50, useful: 70 };
        observe(&Observation::Accounts { counted: seen, seen }).unwrap();
        for counted in
            [Account { received: 101, ..seen }, Account { sent: 49, ..seen }, Account { useful: 71, ..seen }]
        {
            expect_breach(observe(&Observation::Accounts { counted, seen }), "INV-S-21");
        }
    }
}
