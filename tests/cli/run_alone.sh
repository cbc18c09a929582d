# A job of several ranks trains where there is no network at all: no interface but loopback, no names, IPv4 or IPv6.
[[ $SATURN_TRAIN == 1 ]] || skip "this build cannot train"
unshare -rn true 2>/dev/null || skip "this user may not make a network of its own"
command -v ip >/dev/null || skip "ip is not installed"
toy_batch alone >batch.toml
cat >>batch.toml <<'END'
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
