# A private RabbitMQ node on loopback that leaves nothing behind. Sourced, not run.
# shellcheck shell=bash

readonly NODE_NAME=amqpost-demo@localhost

# Prints the first of `count` ports from `first` on at which nothing listens, on any address.
#
# All are below 32768: a higher port may be the local end of an outgoing connection.
free_port() {
    local first=$1 count=$2 port hex
    for ((port = first; port < first + count; port++)); do
        printf -v hex '%04X' "$port"
        # The state 0A is LISTEN. Reading the table needs no tool and, unlike a trial connection,
        # disturbs nobody.
        if ! grep -qsE "^ *[0-9]+: [0-9A-F]+:$hex [0-9A-F]+:0000 0A " /proc/net/tcp /proc/net/tcp6; then
            printf '%s\n' "$port"
            return 0
        fi
    done
    printf 'All ports from %s to %s are taken.\n' "$first" "$((first + count - 1))" >&2
    return 1
}

# Starts the node in the background, all of it below the directory $1; its process is $! afterwards.
#
# It listens for AMQP on port $2 and for HTTP (the management plugin) on port $3. It does not listen
# for other nodes, so it needs no epmd, a daemon that would outlive it.
start_node() {
    local directory=$1 amqp_port=$2 http_port=$3
    mkdir -p "$directory"/{home,mnesia,log,conf.d}
    cat >"$directory/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$amqp_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $http_port
# A disk that is nearly full must not stop a demo.
disk_free_limit.absolute = 1MB
CONF
    printf '[rabbitmq_management].\n' >"$directory/enabled_plugins"
    printf '[].\n' >"$directory/advanced.config"
    # Erlang would otherwise ask the resolver, perhaps a distant one, for the name of 127.0.0.1.
    printf '{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n' >"$directory/inetrc"

    # The environment is empty, and a path is set for everything that /etc/rabbitmq would otherwise
    # decide.
    local environment=(
        PATH="$PATH" LANG=C.UTF-8 HOME="$directory/home" ERL_INETRC="$directory/inetrc"
        ERL_CRASH_DUMP=/dev/null ERL_CRASH_DUMP_SECONDS=0
        RABBITMQ_NODENAME="$NODE_NAME"
        RABBITMQ_CONFIG_FILE="$directory/rabbitmq.conf"
        RABBITMQ_CONFIG_FILES="$directory/conf.d/*.conf"
        RABBITMQ_ADVANCED_CONFIG_FILE="$directory/advanced.config"
        RABBITMQ_CONF_ENV_FILE="$directory/no-such-file"
        RABBITMQ_ENABLED_PLUGINS_FILE="$directory/enabled_plugins"
        RABBITMQ_MNESIA_BASE="$directory/mnesia" RABBITMQ_LOG_BASE="$directory/log"
        # Port 1 stands for "ask no epmd": otherwise RabbitMQ would look for its own name there for
        # five seconds.
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-sname $NODE_NAME -setcookie private -dist_listen false \
-start_epmd false -erl_epmd_port 1"
        # Makes the start script become the node, as under systemd, so that there is one process to
        # stop.
        RUNNING_UNDER_SYSTEMD=true
    )
    # A session of its own keeps Ctrl-C away from it; the kernel kills it if this script is killed.
    # Not /usr/sbin/rabbitmq-server, which changes to the user rabbitmq and to the system's
    # directories.
    setsid setpriv --pdeathsig KILL env -i "${environment[@]}" \
        /usr/lib/rabbitmq/bin/rabbitmq-server </dev/null >"$directory/output" 2>&1 &
}
