//! Tokens (JWT, HS256) and a node that accepts them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::broker::Broker;

/// The key that signs the tokens which [`Broker::with_tokens`] accepts.
const KEY: &[u8] = b"an-old-key-of-thirty-two-bytes-!";

/// A token for everything in each vhost, valid for this long from now.
pub fn token(valid_for: Duration) -> String {
    signed_with(KEY, valid_for)
}

/// A token that no broker of these tests accepts.
pub fn forged_token(valid_for: Duration) -> String {
    signed_with(b"somebody-elses-key", valid_for)
}

fn signed_with(key: &[u8], valid_for: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let head = json!({"alg": "HS256", "typ": "JWT", "kid": "key"});
    let claims = json!({
        "sub": "amqpost",
        "aud": ["rabbitmq"],
        "scope": ["rabbitmq.configure:*/*", "rabbitmq.write:*/*", "rabbitmq.read:*/*"],
        "iat": now.as_secs(),
        "exp": (now + valid_for).as_secs(),
    });
    let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(hmac(key, format!("{head}.{claims}").as_bytes()));
    format!("{head}.{claims}.{signature}")
}

/// HMAC-SHA256 with a key of at most 64 bytes (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

impl Broker {
    /// Starts a node that accepts tokens as passwords, whatever the user, and its own users too.
    pub async fn with_tokens() -> Self {
        let broker = Self::builder()
            // RabbitMQ 3.10 has no oauth2_client.
            .plugins(&["rabbitmq_auth_backend_oauth2", "cowlib", "jose", "base64url", "oauth2_client"])
            .config_line("auth_backends.1 = rabbit_auth_backend_oauth2")
            .config_line("auth_backends.2 = internal")
            .start()
            .await;
        let key = URL_SAFE_NO_PAD.encode(KEY);
        broker
            .run_ok(&format!(
                "App = rabbitmq_auth_backend_oauth2,
                 Key = #{{<<\"kty\">> => <<\"oct\">>, <<\"alg\">> => <<\"HS256\">>,
                     <<\"k\">> => <<\"{key}\">>}},
                 application:set_env(App, resource_server_id, <<\"rabbitmq\">>),
                 application:set_env(App, key_config,
                     [{{default_key, <<\"key\">>}}, {{signing_keys, #{{<<\"key\">> => {{map, Key}}}}}}])."
            ))
            .await;
        broker
    }
}
