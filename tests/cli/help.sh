# Help is on stdout and fits a screen for every command; a wrong word gets exit 2 and the nearest right one.
run 0 "$SATURN" --help
has out "Usage: saturn COMMAND"
while read -r command; do
  run 0 "$SATURN" "$command" --help
  has out "Usage: saturn $command"
  lines=$(wc -l <out)
  ((lines <= 30)) || broken "$command --help has $lines lines" out
  width=$(awk '{ if (length($0) > most) most = length($0) } END { print most }' out)
  ((width <= 110)) || broken "$command --help is $width columns wide" out
done < <("$SATURN" --help | awk '/^  [a-z]/ { print $1 }')

run 2 "$SATURN" frobnicate
has err 'command "frobnicate" does not exist' "expected:"
[[ ! -s out ]] || broken "a fault was printed on stdout" out
