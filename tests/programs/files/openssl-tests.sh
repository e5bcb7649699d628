# Sourced: OpenSSL's own test programs, compiled in the guest from Debian's source and linked with Debian's libraries.
source=/tmp/programs/source/openssl
work=/tmp/openssl-tests
flags="-O1 -w -I. -I$work -Iinclude -Iapps/include -Itest -Iproviders/common/include"
flags="$flags -Iproviders/implementations/include -Icrypto -Icrypto/ec -Icrypto/rsa -Icrypto/bn"
flags="$flags -Icrypto/ec/curve448 -Icrypto/ec/curve448/arch_64 -DOPENSSL_SUPPRESS_DEPRECATED -DNDEBUG"
cd $source || exit 1

# What a configured source would have: which words a big number is made of, how libraries are loaded.
mkdir -p $work/crypto
echo '#define SIXTY_FOUR_BIT_LONG' > $work/crypto/bn_conf.h
printf '#define DSO_DLFCN\n#define HAVE_DLFCN_H\n#define DSO_EXTENSION ".so"\n' > $work/crypto/dso_conf.h
if [ ! -e $work/libtestutil.a ]; then
  for file in test/testutil/*.c apps/lib/opt.c; do
    gcc $flags -c $file -o $work/$(basename $file .c).o || exit 1
  done
  x86_64-linux-gnu-ar rcs $work/libtestutil.a $work/*.o
fi

# make NAME LIBRARIES...
make() {
  test=$1
  shift
  gcc $flags test/$test.c -o $work/$test $work/libtestutil.a "$@"
}

# run NAME ARGUMENTS...: what fails is shown, with the test's own account of it.
run() {
  test=$1
  file=
  shift
  for argument in "$@"; do file=" ${argument##*/}"; done
  if (cd test && $work/$test "$@") > $work/output 2>&1; then
    echo "ok $test$file"
  else
    echo "FAILED $test $*"
    tail -n 40 $work/output
  fi
}

# dynamic NAME..., static NAME...: tests without arguments; static ones look at what the library does not export.
dynamic() {
  for each in "$@"; do make "$each" -lcrypto && run "$each" && rm $work/"$each"; done
}
static() {
  for each in "$@"; do
    make "$each" -l:libssl.a -l:libcrypto.a -ldl -lpthread && run "$each" && rm $work/"$each"
  done
}
