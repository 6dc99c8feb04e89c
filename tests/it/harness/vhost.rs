//! A vhost, for one test.

use super::broker::Broker;
use super::control::binary;

/// A vhost of a [`Broker`], in which guest may do everything.
///
/// It stays as long as the node: tests need not clean up.
#[derive(Debug, Clone)]
pub struct Vhost {
    broker: Broker,
    name: String,
}

impl Vhost {
    pub(super) fn new(broker: Broker, name: &str) -> Self {
        Self { broker, name: name.to_owned() }
    }

    /// The vhost's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The broker the vhost is in.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The URI of the vhost for guest.
    pub fn uri(&self) -> String {
        self.uri_as("guest", "guest")
    }

    /// The URI of the vhost for another user.
    pub fn uri_as(&self, user: &str, password: &str) -> String {
        let port = self.broker.amqp_port();
        self.broker.uri_for(&self.name, user, password, port)
    }

    /// The URI of the vhost for guest through another port, such as a fault proxy's.
    pub fn uri_via(&self, port: u16) -> String {
        self.broker.uri_for(&self.name, "guest", "guest", port)
    }

    /// Sets a user's permissions to configure, write and read (regular expressions; an empty one
    /// matches nothing).
    ///
    /// Channels that are open keep the permissions they have already used.
    pub async fn set_permissions(&self, user: &str, configure: &str, write: &str, read: &str) {
        let [vhost, user] = [&self.name, user].map(binary);
        let [configure, write, read] = [configure, write, read].map(binary);
        self.broker
            .run_ok(&format!(
                "rabbit_auth_backend_internal:set_permissions(
                   {user}, {vhost}, {configure}, {write}, {read}, <<\"harness\">>)."
            ))
            .await;
    }

    /// Sets a policy on the queues whose names match `pattern`; `definition` is JSON, such as
    /// `{"max-length": 1, "overflow": "reject-publish"}`.
    pub async fn set_policy(&self, name: &str, pattern: &str, definition: &str) {
        let [vhost, name] = [&self.name, name].map(binary);
        let [pattern, definition] = [pattern, definition].map(binary);
        self.broker
            .run_ok(&format!(
                "rabbit_policy:parse_set({vhost}, {name}, {pattern}, {definition},
                   \"0\", <<\"queues\">>, <<\"harness\">>)."
            ))
            .await;
    }

    /// Removes a policy.
    pub async fn clear_policy(&self, name: &str) {
        let [vhost, name] = [&self.name, name].map(binary);
        self.broker.run_ok(&format!("rabbit_policy:delete({vhost}, {name}, <<\"harness\">>).")).await;
    }

    /// Suspends the process of a queue: it accepts messages and confirms none, like a quorum queue
    /// without a majority.
    pub async fn suspend_queue(&self, queue: &str) {
        self.tell_queue(queue, "suspend").await;
    }

    /// Resumes it.
    pub async fn resume_queue(&self, queue: &str) {
        self.tell_queue(queue, "resume").await;
    }

    async fn tell_queue(&self, queue: &str, word: &str) {
        let [vhost, queue] = [&self.name, queue].map(binary);
        self.broker
            .run_ok(&format!(
                "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r({vhost}, queue, {queue})),
                 sys:{word}(amqqueue:get_pid(Q))."
            ))
            .await;
    }

    /// How many client connections the vhost has.
    pub async fn connections(&self) -> usize {
        let count = self.broker.run(&format!("length({}).", self.listed())).await;
        count.parse().unwrap_or_else(|e| panic!("{count:?}: {e}"))
    }

    /// Closes the vhost's client connections with `connection.close` 320 and this reason, and waits
    /// until all are gone; returns how many there were.
    pub async fn close_connections(&self, reason: &str) -> usize {
        self.broker.close_connections(&self.listed(), reason).await
    }

    /// Removes the vhost with its queues and connections.
    pub async fn delete(&self) {
        let vhost = binary(&self.name);
        self.broker.run_ok(&format!("rabbit_vhost:delete({vhost}, <<\"harness\">>).")).await;
    }

    /// The Erlang expression for the vhost's connections.
    fn listed(&self) -> String {
        let vhost = binary(&self.name);
        format!(
            "[P || [{{pid, P}}, {{vhost, H}}] <- rabbit_networking:connection_info_all([pid, vhost]), H \
            =:= {vhost}]"
        )
    }
}
