module github.com/stagedoor/stagedoor/tools/certify

go 1.26.0
