//! Renews the token of open connections when the file of the password holds another one.
//!
//! The broker closes a connection whose new token it refuses. So a token is tried on a connection
//! of its own first, and open ones get it only once the broker has accepted it.

use super::attempts::{Rotation, connect};
use super::failure::DialError;
use super::reporter::Reporter;
use super::supervisor::close_promptly;
use super::token::Token;
use crate::config::Secret;
use crate::labels::ConnectFailure;
use crate::link::LinkSettings;
use crate::link::backoff::Backoff;
use crate::metrics::Metrics;
use crate::watched_files::Seen;
use lapin::Connection;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// After a refusal the token is tried again: the broker may have been unable to check it.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// After this many attempts that said nothing about the token, open connections get it untried.
const UNTRIED_AFTER: u32 = 3;

/// The newest token that open connections should have; `None` before the first renewal.
pub(crate) type Renewed = watch::Receiver<Option<Secret>>;

/// The task that tries new tokens.
pub(crate) struct Renewal {
    pub(crate) settings: Arc<LinkSettings>,
    pub(crate) file: watch::Receiver<Seen<Secret>>,
    pub(crate) renewed: watch::Sender<Option<Secret>>,
}

/// What became of a try.
enum Tried {
    Accepted,
    Refused(DialError),
    /// The attempt failed for another reason.
    Unknown(DialError),
    /// The broker takes no further connection of this user.
    NoRoom,
}

impl Renewal {
    /// Runs until nobody watches the file any more.
    pub(crate) async fn run(mut self) {
        let mut known = self.file.borrow_and_update().good.clone();
        loop {
            let is_news = |seen: &Seen<Secret>| seen.good.is_some() && seen.good != known;
            let Ok(news) = self.file.wait_for(is_news).await.map(|seen| seen.good.clone()) else { return };
            let had_one = known.is_some();
            known = news;
            let Some(secret) = &known else { continue };
            // Before the first password there is no connection to renew.
            if had_one && Token::of(secret).is_some() {
                let mut file = self.file.clone();
                tokio::select! {
                    () = self.renew(secret) => {}
                    // Another content is due instead.
                    _ = file.wait_for(|seen| seen.good.as_ref().is_some_and(|good| good != secret)) => {}
                }
            }
        }
    }

    /// Tries the token until the broker has accepted it or cannot be asked, and hands it out.
    async fn renew(&self, secret: &Secret) {
        let mut again = Backoff::new(AGAIN_MIN, AGAIN_MAX);
        let mut rotation = Rotation::starting_at(fastrand::usize(..self.settings.broker.endpoints.len()));
        let mut unknown = 0;
        loop {
            match self.try_out(&mut rotation).await {
                Tried::Accepted | Tried::NoRoom => break,
                Tried::Unknown(error) => {
                    unknown += 1;
                    tracing::debug!(cause = error.text, "the new token could not be tried");
                    if unknown >= UNTRIED_AFTER {
                        break;
                    }
                }
                Tried::Refused(error) => {
                    tracing::warn!(
                        cause = error.text,
                        "the broker refuses the new token in broker.password_file; open connections keep \
                         the one before"
                    );
                }
            }
            tokio::time::sleep(again.next_delay()).await;
        }
        self.renewed.send_replace(Some(secret.clone()));
    }

    /// Logs in with the present content of the files, and out again.
    async fn try_out(&self, rotation: &mut Rotation) -> Tried {
        // It is the only connection beside the configured ones.
        let extra = Arc::clone(&self.settings.homing.extra).acquire_owned().await;
        let (_, dialled) = connect(&self.settings, rotation, |_| 0, |_| {}, |_, _| {}).await;
        let _extra = extra.expect("nobody closes it");
        match dialled {
            Ok(dialled) => {
                close_promptly(&dialled.connection).await;
                Tried::Accepted
            }
            Err(error) if error.text.contains("connection limit") => Tried::NoRoom,
            Err(error) if error.failure == ConnectFailure::Authentication => Tried::Refused(error),
            Err(error) => Tried::Unknown(error),
        }
    }
}

/// Gives `connection` each new token. It logged in with `current`.
pub(crate) async fn keep_renewed(
    connection: &Connection,
    mut renewed: Renewed,
    mut current: Secret,
    reporter: &Reporter,
) {
    let Reporter { slot, metrics, .. } = reporter;
    note(&current, metrics);
    loop {
        let is_newer = |secret: &Option<Secret>| secret.as_ref().is_some_and(|it| replaces(it, &current));
        let other = renewed.wait_for(is_newer).await;
        let Ok(Some(secret)) = other.map(|secret| secret.clone()) else {
            // Nothing is renewed any more, and the connection goes on.
            return std::future::pending().await;
        };
        current = secret;
        match connection.update_secret(current.expose().into(), "the token was renewed".into()).await {
            Ok(()) => {
                note(&current, metrics);
                tracing::info!(connection = slot, "renewed the token");
            }
            // The connection ends, and the next one logs in with the new token.
            Err(error) => tracing::warn!(connection = slot, %error, "could not renew the token"),
        }
    }
}

/// Whether a connection with the secret `current` should get this token. The connection reads the
/// file itself when it logs in, so the token that was handed out last may be the older one.
fn replaces(token: &Secret, current: &Secret) -> bool {
    let Some(Token { end: current_end, .. }) = Token::of(current) else { return false };
    let end = Token::of(token).and_then(|token| token.end);
    token != current && (end.is_none() || end > current_end)
}

/// Shows until when the broker accepts a secret.
fn note(secret: &Secret, metrics: &Metrics) {
    let token = Token::of(secret);
    let lifetime = token.map(|token| token.lifetime(SystemTime::now())).unwrap_or_default();
    metrics.token_in_use(token.and_then(|token| token.end), lifetime);
}

#[cfg(test)]
mod tests {
    use super::super::token::testing::token_until;
    use super::*;

    #[test]
    fn a_connection_gets_only_a_token_that_ends_later_than_its_own() {
        let [early, late] = [1_700_000_000, 1_700_003_600].map(token_until);
        assert!(replaces(&late, &early));
        assert!(!replaces(&early, &late), "it logged in with a newer one than was handed out");
        assert!(!replaces(&late, &late));
        assert!(!replaces(&late, &Secret::new("a password")), "it logged in after a token was replaced");
    }
}
