#!/usr/bin/env bash
# An authority and a certificate for each rank, for the benches' --credentials: make_certificates.sh FOLDER [RANKS]
set -euo pipefail
folder="${1:?usage: make_certificates.sh FOLDER [RANKS]}"
ranks="${2:-4}"
mkdir -p "$folder"
cd "$folder"
key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null ||
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
key ca.key
openssl req -x509 -new -key ca.key -subj "/CN=Bench CA" -days 2 -out ca.crt
for ((rank = 0; rank < ranks; ++rank)); do
  key "rank$rank.key"
  openssl req -new -key "rank$rank.key" -subj "/CN=rank $rank" -out rank.csr
  openssl x509 -req -in rank.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 1 -out "rank$rank.crt" \
    -extfile <(echo "subjectAltName=URI:spiffe://bench.example/job/rank/$rank") 2>/dev/null
done
rm -f rank.csr
