#!/bin/sh
# Makes what compose.yaml needs, once: validators' keys, the genesis file that names them, their addresses for each
# other, and passwords. All of it goes into network/ and .env beside this script, and neither is ever committed.
set -eu
cd "$(dirname "$0")"
umask 077
image=${BESU_IMAGE:-hyperledger/besu:26.5.0}

if [ -e network ] || [ -e .env ]; then
    echo "network or .env is there already: move it away if you want another network" >&2
    exit 1
fi
mkdir network

# Besu's operator tool draws the keys and writes them into the genesis file's extraData, as QBFT wants it.
docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/deploy" "$image" operator generate-blockchain-config \
    --config-file=/deploy/qbft.json --to=/deploy/network/made --private-key-file-name=key
mv network/made/genesis.json network/genesis.json

# Each validator gets a data folder with its key, and the list of all as "enode://PUBLIC KEY@ADDRESS:PORT".
n=0
nodes=
for made in network/made/keys/*; do
    n=$((n + 1))
    mkdir -p "network/validator$n"
    mv "$made/key" "$made/key.pub" "network/validator$n/"
    nodes="$nodes${nodes:+, }\"enode://$(sed 's/^0x//' "network/validator$n/key.pub")@172.30.0.1$n:30303\""
done
[ "$n" -eq 4 ] || { echo "$n keys were made where compose.yaml has 4 validators" >&2; exit 1; }
rm -r network/made
for k in 1 2 3 4; do
    echo "[$nodes]" >"network/validator$k/static-nodes.json"
done

secret() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }
cat >.env <<END
BESU_IMAGE=$image
OWNER=$(id -u):$(id -g)
STORE_USER=hansa
STORE_PASSWORD=$(secret)
END
echo "made network/ and .env; next: docker compose up --detach"
