//! The promises as figures: one scenario each, measured against the built amqpost and a real
//! broker, with a bound.

#[path = "it/harness/mod.rs"]
mod harness;
#[path = "it/harness/pace.rs"]
mod pace;
#[path = "figures/mod.rs"]
mod run;

/// Each figure is a test of its name, so that it can be run alone: scripts/promises NAME.
macro_rules! figures {
    ($($name:ident),*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "takes minutes and a quiet machine: scripts/promises"]
            async fn $name() {
                run::$name::measure(run::is_short()).await.end();
            }
        )*
    };
}

figures!(
    first_refusal,
    refusals,
    unknown_and_storm,
    confirmed_again,
    beyond_deadline,
    collateral,
    false_stalls,
    memory
);
