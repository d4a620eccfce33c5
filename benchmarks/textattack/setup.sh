#!/bin/sh
# TextAttack 0.3.11 in an environment of its own (.venv beside this file): it needs transformers < 5, fivenines 5.
#
#     sh benchmarks/textattack/setup.sh          # PYTHON=python3.12 sh ... for another interpreter
#
# It downloads word lists when it is first imported. Offline that fails without harm, and what its recipes need is read
# from NLTK_DATA: a folder with corpora/stopwords and taggers/averaged_perceptron_tagger.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3.11}
command -v "$PYTHON" >/dev/null || { echo "setup.sh needs Python 3.11 or newer: PYTHON=python3 sh setup.sh"; exit 2; }
# The marker is written last, so that an interrupted install starts again.
if [ .venv/.installed -nt constraints.txt ]; then
    exit 0
fi
test -x .venv/bin/python || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt textattack==0.3.11
touch .venv/.installed
