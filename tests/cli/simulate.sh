# A table is simulated under several policies, repeatably, and asked what-if; what cannot be is refused.
table=$SATURN_SOURCE_DIR/configs/reference/txt-1x8.json
quick=(--runs 1 --iterations 300)
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --error 0.3
has out saturn-dynamic current-practice
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --policy minimal --policy minimal-dynamic --json
cp out first
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --policy minimal --policy minimal-dynamic --json
cmp first out || broken "the same seed gave another document" out
run 0 "$SATURN" simulate --table "$table" "${quick[@]}" --policy best-list --class h100:2 --devices 1x4:h100+1x8
has out best-list

run 2 "$SATURN" simulate
has err "nothing to simulate"
run 2 "$SATURN" simulate --table "$table" --policy best-lits
has err 'did you mean "best-list"'
run 2 "$SATURN" simulate --table "$table" --fail 2/week
has err "N/day or N/hour"
run 3 "$SATURN" simulate --table "$table" --devices 1x4:h100
has err "--class NAME:SPEED"
"$SATURN_SOURCE_DIR/tools/reference_tables" --check || broken "configs/reference is not what its tool writes"
