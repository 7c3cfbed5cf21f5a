"""A server for trained runs: a page in the browser, an API, user simulators, an arena.

    conkd-serve --workdir=runs/dialogpt_hard-demo-seed0

The extra `serve` installs what it needs: `pip install 'conkd_jax[serve]'`. docs/howto/serve.md
describes the routes.
"""
