# The menu. Each entry is one script or one CMake preset; `make help` lists them.
MAKEFLAGS += --no-print-directory
.PHONY: help run test torture build bench gpu-test sanitize lint fmt package image test-deploy clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

run: ## set up, build, fetch the default model, start a server and talk to it (ARGS="--device cpu")
	@deploy/run_demo.sh $(ARGS)

test: ## set up, build and run every test that needs no GPU
	@deploy/test.sh cpu

torture: ## what the server must survive, in full, with a figure and a threshold for each row (up to 45 minutes)
	@tests/torture/run.sh $(ARGS)

build: ## set up and build everything that needs no GPU, into build/cpu
	@deploy/setup.sh run
	@deploy/build.sh cpu

bench: build ## measure the CPU executor against its floor; JSON (ARGS="--threads 2")
	@build/cpu/bin/megakernel-bench cpu --model "$$(deploy/fetch_model.sh)" $(ARGS)

gpu-test: ## build with CUDA and run the tests that need a GPU
	@deploy/setup.sh run cuda
	@deploy/test.sh gpu -L gpu

sanitize: ## engine and server tests under the address, undefined-behaviour and thread sanitizers
	@deploy/test.sh asan tests/engine tests/kernels tests/server -LE 'model|e2e'
	@deploy/test.sh tsan tests/engine tests/server -LE 'model|e2e'

lint: ## format check, clang-tidy, shellcheck, buf lint
	@deploy/setup.sh run lint
	@deploy/lint.sh

fmt: ## format every C++ file in place
	@deploy/setup.sh run lint
	@deploy/lint.sh --fix

package: ## .deb and archive of programs that need only glibc, in build/package/packages
	@deploy/package.sh

image: ## container image, with docker (deploy/README.md)
	docker build -t megakernel -f deploy/Dockerfile .

test-deploy: ## try what users get: installed files, image, packages, service unit, compose file; as root
	@deploy/test_deploy.sh

clean: ## remove the build folders; downloads stay in .cache
	rm -rf build
