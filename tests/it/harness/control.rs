//! Runs Erlang expressions inside a node over a Unix socket in its directory.
//!
//! `rabbitmqctl` starts an Erlang VM per call (more than a second of CPU) and needs the
//! distribution protocol; this takes about a millisecond and needs neither.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The environment variable that tells the node where its control socket is.
pub const SOCKET_VARIABLE: &str = "HARNESS_CONTROL";

/// The Erlang side: evaluates one expression per connection and answers with its value.
pub const SERVER: &str = r#"
spawn(fun() ->
  Path = os:getenv("HARNESS_CONTROL"),
  file:delete(Path),
  {ok, Listener} = gen_tcp:listen(0, [binary, {packet, 4}, {active, false},
                                      {backlog, 128}, {ifaddr, {local, Path}}]),
  Answer = fun(Socket) ->
    {ok, Source} = gen_tcp:recv(Socket, 0),
    Reply = try
      {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Source)),
      {ok, Expressions} = erl_parse:parse_exprs(Tokens),
      {value, Value, _} = erl_eval:exprs(Expressions, []),
      io_lib:format("+~0tp", [Value])
    catch Class:Reason:Stack ->
      io_lib:format("-~0tp", [{Class, Reason, Stack}])
    end,
    gen_tcp:send(Socket, unicode:characters_to_binary(Reply)),
    gen_tcp:close(Socket)
  end,
  Loop = fun Loop() ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Worker = spawn(fun() -> receive go -> Answer(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Worker),
    Worker ! go,
    Loop()
  end,
  Loop()
end).
"#;

/// The caller's side of a node's control socket.
#[derive(Debug, Clone)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// Speaks to the node whose control socket is at `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Where the socket is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Evaluates an expression (with its final dot) and returns its value as Erlang text.
    ///
    /// # Errors
    /// When the node does not answer within `deadline` or the expression raised.
    pub async fn try_run(&self, expression: &str, deadline: Duration) -> Result<String, String> {
        tokio::time::timeout(deadline, self.exchange(expression))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))
    }

    /// Evaluates an expression that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn run(&self, expression: &str) -> String {
        self.try_run(expression, Duration::from_secs(60))
            .await
            .unwrap_or_else(|reason| panic!("the broker could not run {expression}: {reason}"))
    }

    /// Evaluates an expression that must return the atom `ok`.
    ///
    /// # Panics
    /// When it returns anything else.
    pub async fn run_ok(&self, expression: &str) {
        let value = self.run(expression).await;
        assert_eq!(value, "ok", "the broker's answer to {expression}");
    }

    async fn exchange(&self, expression: &str) -> Result<String, String> {
        let told = |error: std::io::Error| error.to_string();
        let mut stream = UnixStream::connect(&self.socket).await.map_err(told)?;
        let length = u32::try_from(expression.len()).map_err(|e| e.to_string())?;
        let mut order = length.to_be_bytes().to_vec();
        order.extend_from_slice(expression.as_bytes());
        stream.write_all(&order).await.map_err(told)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.map_err(told)?;
        let text = String::from_utf8_lossy(reply.get(4..).unwrap_or_default()).into_owned();
        match text.split_at_checked(1) {
            Some(("+", value)) => Ok(value.into()),
            Some((_, reason)) => Err(reason.into()),
            None => Err("the connection ended without an answer".into()),
        }
    }
}

/// Writes a Rust string with any characters as an Erlang binary.
pub fn binary(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    format!("<<{}>>", bytes.join(","))
}
