# A job of several ranks trains where there is no network at all: no interface but loopback, no names, IPv4 or IPv6.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
unshare -rn true 2>/dev/null || skip "this user may not make a network of its own"
command -v ip >/dev/null || skip "ip is not installed"
for i in $(seq 400); do printf 'And God said Let there be light and there was light. %d\n' "$i"; done >text.txt
cat >batch.toml <<'END'
[batch]
name = "alone"
[devices]
cpu_slots = 2
threads_per_slot = 1
oversubscribe = true
[data.text]
kind = "text"
path = "text.txt"
sequence_length = 32
[[job]]
name = "pair"
model = "gpt2-toy"
data = "text"
steps = 5
batch_size = 4
techniques = ["ddp"]
devices = [2]
optimizer.lr = 1e-3
END
run 0 unshare -rn sh -c 'ip link set lo up && HOSTNAME=nowhere.invalid exec "$0" run batch.toml' "$SATURN"
has out pair done
run 0 unshare -rn sh -c 'ip link set lo up && ip addr del 127.0.0.1/8 dev lo && exec "$0" run batch.toml --dir six' "$SATURN"
has out pair done
