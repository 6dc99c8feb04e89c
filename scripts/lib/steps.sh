# Runs the steps of a check one after the other, and prints where the time goes. Sourced, not run.
# shellcheck shell=bash

# Each step has a limit of twice the time that it usually takes, and at least this many seconds: a
# short step on a busy machine is no hang.
readonly STEP_LIMIT_MIN=240
# A failed step ends the script at once unless this is 1. The steps' results are in the table in
# either case.
keep_going=${keep_going:-0}
steps_table=
steps_failed=()
step_job=
# The remarks of the steps beside their results, one per line. `remark` writes them in the step's
# process.
STEP_REMARKS=$(mktemp)
export STEP_REMARKS
trap 'rm -f -- "$STEP_REMARKS"' EXIT

# Adds a row to the table that print_steps prints.
note_step() {
    local title=$1 usual=$2 seconds=$3 status=$4 result=passed
    if ((status == 124 || status == 137)); then
        result="not done after $seconds s"
    elif ((status != 0)); then
        result="failed with status $status"
    fi
    local remark
    while IFS= read -r remark; do result+="; $remark"; done <"$STEP_REMARKS"
    : >"$STEP_REMARKS"
    steps_table+="| $title | $result | $seconds | $usual |"$'\n'
    printf '== %s: %s, %d s (usually %d s)\n' "$title" "$result" "$seconds" "$usual"
    ((status == 0)) || steps_failed+=("$title")
}

limit_of() {
    local limit=$((2 * $1))
    printf '%d' "$((limit > STEP_LIMIT_MIN ? limit : STEP_LIMIT_MIN))"
}

# Runs a command as a step: step TITLE USUAL_SECONDS COMMAND...
step() {
    local title=$1 usual=$2 begin=$SECONDS status=0
    shift 2
    printf '\n== %s (usually %d s, at most %d s)\n' "$title" "$usual" "$(limit_of "$usual")"
    # In the background, so that the traps below work at once: the command is in a process group of
    # its own, which Ctrl-C does not reach. Jobs in the background ignore SIGINT, which programs
    # under test must not inherit.
    env --default-signal=INT timeout --kill-after=30 "$(limit_of "$usual")" "$@" &
    step_job=$!
    wait "$step_job" || status=$?
    step_job=
    note_step "$title" "$usual" "$((SECONDS - begin))" "$status"
    ((status == 0 || keep_going)) || end_steps
}

# Runs a step whose tool a machine need not have.
step_if_there() {
    local tool=$1
    shift
    if command -v "$tool" >/dev/null; then
        step "$@"
    else
        skip_step "$1" "$2" "there is no $tool"
    fi
}

# Adds a row for a step that this machine cannot run: skip_step TITLE USUAL_SECONDS REASON
skip_step() {
    printf '\n== %s: skipped, %s\n' "$1" "$3"
    steps_table+="| $1 | skipped, $3 | 0 | $2 |"$'\n'
}

# Prints the table of all steps so far.
print_steps() {
    printf '\n| step | result | seconds | usually |\n|---|---|---|---|\n%s' "$steps_table"
}

# Prints the table and exits: 0 when every step passed.
end_steps() {
    print_steps
    if ((${#steps_failed[@]} == 0)); then
        printf '\nAll steps passed in %d min %02d s\n' "$((SECONDS / 60))" "$((SECONDS % 60))"
        exit 0
    fi
    printf '\nAfter %d min %02d s, these failed:\n' "$((SECONDS / 60))" "$((SECONDS % 60))"
    printf '  %s\n' "${steps_failed[@]}"
    exit 1
}

# timeout passes the signal on to everything that its command started.
stop_step() {
    if [[ -n $step_job ]] && kill -TERM "$step_job" 2>/dev/null; then wait "$step_job" || true; fi
    exit "$1"
}
trap 'stop_step 130' INT
trap 'stop_step 143' TERM HUP
